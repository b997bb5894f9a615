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

enum { PROMPT = 37, OUTPUT = 4, HEADS_MOST = 4 };

struct fixture {
    struct kk *k;
    struct kp *p;
    struct decoder *x;
    struct kr kept;
    uint32_t sequences, prompt;
};

static inline void open_it(struct kk *k, const char *yaml, struct decoder_setting s,
                           struct fixture *f)
{
    *f = (struct fixture){
        .k = k, .p = kp_build(yaml), .sequences = s.sequences, .prompt = s.prompt};
    kk_ok(k, decoder_open(k->d, &f->p->problem, &s, &f->x));
    f->kept = kr_open(k->a, f->x,
                      &(struct kr_size){.layers = f->p->problem.layout.n_layers,
                                        .sequences = s.sequences,
                                        .heads = HEADS_MOST,
                                        .steps = s.output + 1,
                                        .room = s.prompt + s.output});
}

static inline void close_it(struct fixture *f)
{
    decoder_close(f->x);
    kt_u64(device_used_bytes(f->k->d), 0);
    kp_free(f->p);
}

/* Other weights and prompts every time. */
static inline struct decoder_setting setting(struct kk *k)
{
    return (struct decoder_setting){
        .sequences = 2, .prompt = PROMPT, .output = OUTPUT, .seed = rng_next(&k->rng)};
}

/* --- numbers --------------------------------------------------------------------------------
 */

struct error { /* sums of squares */
    double ours, naive, size;
};

struct errors {
    struct error logits, scores;
};

static inline void add_error(struct error *e, double got, double want, double naive)
{
    e->ours += pow(got - want, 2);
    e->naive += pow(naive - want, 2);
    e->size += pow(want, 2);
}

static inline void compare(const struct fixture *f, uint32_t sequence, double *const *logits,
                           struct error *e)
{
    uint32_t vocab = f->p->problem.model.vocab;
    float *got = ARENA_NEW(f->k->a, float, (size_t)f->sequences *vocab);

    kk_ok(f->k, decoder_logits(f->x, got));
    for (uint32_t i = 0; i < vocab; i++)
        add_error(e, (double)got[sequence * vocab + i], logits[0][i], logits[1][i]);
}

/* What the rows were worth by which something was dropped, where both references have it. */
static inline void compare_scores(const struct fixture *f, uint32_t sequence, struct error *e)
{
    const struct kr_size *size = &f->kept.size;

    for (uint32_t i = 0; i < size->layers * size->heads; i++) {
        struct kr_list *l = kr_at(&f->kept, i / size->heads, sequence, i % size->heads);
        for (uint32_t j = 0; l->scores && l->want[0] && j < l->of; j++)
            if (!kr_protected(l, l->from + j))
                add_error(e, l->scores[j], l->want[0][j], l->want[1][j]);
    }
}

/* Runs prompts and steps; the references follow the tokens that the decoder chose. */
static inline void follow(struct fixture *f, struct kd_rule rule, struct errors *e)
{
    uint32_t width = f->prompt + OUTPUT + 1, n = 0, vocab = f->p->problem.model.vocab;
    uint32_t *tokens = ARENA_NEW(f->k->a, uint32_t, (size_t)f->sequences * width);
    struct kd refs[2][2];
    double *logits[2] = {ARENA_NEW(f->k->a, double, vocab), ARENA_NEW(f->k->a, double, vocab)};

    decoder_watch(f->x, kr_watch, &f->kept);
    kk_ok(f->k, decoder_prefill(f->x));
    for (uint32_t step = 0; step <= OUTPUT; step++) {
        uint32_t at = step ? f->prompt + step - 1 : 0;
        kk_ok(f->k, decoder_tokens(f->x, tokens, &n));
        kt_u64(n, f->prompt + step + 1);
        for (uint32_t s = 0; s < f->sequences; s++) {
            for (int naive = 0; naive < 2; naive++) {
                struct kd *r = &refs[s][naive];
                if (!step)
                    *r = kd_open(f->k->a, f->x, &f->p->problem.layout, rule, naive, width);
                r->kept = &f->kept;
                r->sequence = s;
                kd_tokens(r, tokens + s * width + at, step ? 1 : f->prompt, at, !step,
                          logits[naive]);
            }
            compare(f, s, logits, &e->logits);
            compare_scores(f, s, &e->scores);
        }
        f->kept.step++;
        if (step < OUTPUT)
            kk_ok(f->k, decoder_decode(f->x, 1));
    }
}

/* Error at most twice that of a plain 16-bit program, or on the whole not more than the
 * `spacing` of numbers; and small beside them. */
static inline void small(const struct error *e, double spacing, const char *yaml,
                         const char *what)
{
    bool little = e->ours <= 4 * e->naive || e->ours <= pow(spacing, 2) * e->size;

    if (little && e->ours <= 0.01 * e->size)
        return;
    print_error("%s: error of %s %g, of a plain program %g, of 1\n", yaml, what,
                sqrt(e->ours / e->size), sqrt(e->naive / e->size));
    fail();
}

static inline void right_with(struct kk *k, const char *yaml, struct kd_rule rule,
                              struct decoder_setting s)
{
    struct errors e = {{0, 0, 0}, {0, 0, 0}};
    struct fixture f;

    open_it(k, yaml, s, &f);
    follow(&f, rule, &e);
    small(&e.logits, 0, yaml, "logits");
    small(&e.scores, 1.0 / 256, yaml, "scores"); /* of chunks there are only a few */
    close_it(&f);
}

static inline void right(struct kk *k, const char *yaml, struct kd_rule rule, uint32_t chunk)
{
    struct decoder_setting s = setting(k);

    s.chunk = chunk;
    right_with(k, yaml, rule, s);
}

#endif
