/* Runs the decoder beside a plain one in double precision (kvdecoder.h), token by token, and
 * compares their logits. */
#ifndef KVBUDGET_TESTS_KVFOLLOW_H
#define KVBUDGET_TESTS_KVFOLLOW_H

#include "tests/kvkeep.h"
#include "tests/kvplan.h"

#define HEAD "vocab_size: 96, heads: 4, kv_heads: 2, head_dim: 16"
#define MODEL "hidden_size: 64, intermediate_size: 96, " HEAD
#define REST "hardware: {memory: 1GiB}\n"
#define GQA "model: {layers: 3, " MODEL "}\n" REST

enum { PROMPT = 37, OUTPUT = 4 };

struct fixture {
    struct kk *k;
    struct kp *p;
    struct decoder *x;
    uint32_t sequences, prompt;
};

static inline void open_it(struct kk *k, const char *yaml, struct decoder_setting s,
                           struct fixture *f)
{
    *f = (struct fixture){
        .k = k, .p = kp_build(yaml), .sequences = s.sequences, .prompt = s.prompt};
    kk_ok(k, decoder_open(k->d, &f->p->problem, &s, &f->x));
}

static inline void close_it(struct fixture *f)
{
    decoder_close(f->x);
    kt_u64(device_used_bytes(f->k->d), 0);
    kp_free(f->p);
}

/* With this seed no two rows are so close in rank that 16 bits tell them apart otherwise. */
static inline struct decoder_setting setting(void)
{
    return (struct decoder_setting){
        .sequences = 2, .prompt = PROMPT, .output = OUTPUT, .seed = 1};
}

/* --- numbers --------------------------------------------------------------------------------
 */

struct error { /* sums of squares */
    double ours, naive, size;
    double gap, asked; /* the least of the reference, as in kvparts.h; it ends below `asked` */
};

static inline void compare(const struct fixture *f, uint32_t sequence, const double *want,
                           const double *naive, struct error *e)
{
    uint32_t vocab = f->p->problem.model.vocab;
    float *got = ARENA_NEW(f->k->a, float, (size_t)f->sequences *vocab);

    kk_ok(f->k, decoder_logits(f->x, got));
    for (uint32_t i = 0; i < vocab; i++) {
        double x = (double)got[sequence * vocab + i];
        e->ours += pow(x - want[i], 2);
        e->naive += pow(naive[i] - want[i], 2);
        e->size += pow(want[i], 2);
    }
}

/* Runs prompts and steps; the references follow the tokens that the decoder chose. */
static inline void follow(struct fixture *f, struct kd_rule rule, struct error *e)
{
    uint32_t width = f->prompt + OUTPUT + 1, n = 0, vocab = f->p->problem.model.vocab;
    uint32_t *tokens = ARENA_NEW(f->k->a, uint32_t, (size_t)f->sequences * width);
    struct kd refs[2][2];
    double *logits[2] = {ARENA_NEW(f->k->a, double, vocab), ARENA_NEW(f->k->a, double, vocab)};

    kk_ok(f->k, decoder_prefill(f->x));
    for (uint32_t step = 0; step <= OUTPUT; step++) {
        kk_ok(f->k, decoder_tokens(f->x, tokens, &n));
        kt_u64(n, f->prompt + step + 1);
        for (uint32_t s = 0; s < f->sequences; s++) {
            const uint32_t *now = tokens + s * width;
            for (int naive = 0; naive < 2; naive++) {
                struct kd *r = &refs[s][naive];
                if (!step)
                    *r = kd_open(f->k->a, f->x, &f->p->problem.layout, rule, naive, width);
                kd_tokens(r, step ? now + f->prompt + step - 1 : now, step ? 1 : f->prompt,
                          step ? f->prompt + step - 1 : 0, !step, logits[naive]);
                e->gap = fmin(e->gap, refs[s][0].gap);
                if (e->gap < e->asked)
                    return;
            }
            compare(f, s, logits[0], logits[1], e);
        }
        if (step < OUTPUT)
            kk_ok(f->k, decoder_decode(f->x, 1));
    }
}

/* Error at most twice that of a plain 16-bit program, and small beside the logits. With a gap:
 * judged only where every row that stays was better by that share than those that go; returns
 * whether it was. */
static inline bool right_beyond(struct kk *k, const char *yaml, struct kd_rule rule,
                                struct decoder_setting s, double gap)
{
    struct error e = {.gap = INFINITY, .asked = gap};
    struct fixture f;

    open_it(k, yaml, s, &f);
    follow(&f, rule, &e);
    if (e.gap < gap) {
        close_it(&f);
        return false;
    }
    if (!(e.ours <= 4 * e.naive) || !(e.ours < 0.01 * e.size))
        print_error("%s: error %g, of a plain program %g, of 1\n", yaml, sqrt(e.ours / e.size),
                    sqrt(e.naive / e.size));
    assert_true(e.ours <= 4 * e.naive);
    assert_true(e.ours < 0.01 * e.size);
    close_it(&f);
    return true;
}

static inline void right_with(struct kk *k, const char *yaml, struct kd_rule rule,
                              struct decoder_setting s)
{
    assert_true(right_beyond(k, yaml, rule, s, 0));
}

/* On the first weights and prompts that leave no rank to the rounding of 16 bits. */
static inline void right_apart(struct kk *k, const char *yaml, struct kd_rule rule)
{
    struct decoder_setting s = setting();
    bool judged = false;

    s.sequences = 1;
    for (s.seed = 1; s.seed < 100 && !judged; s.seed++)
        judged = right_beyond(k, yaml, rule, s, 0.005);
    assert_true(judged);
}

static inline void right(struct kk *k, const char *yaml, struct kd_rule rule, uint32_t chunk)
{
    struct decoder_setting s = setting();

    s.chunk = chunk;
    right_with(k, yaml, rule, s);
}

#endif
