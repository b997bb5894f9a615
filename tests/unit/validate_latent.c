/* validate_latent: the decoder with MLA against a plain one in double precision, with shared
 * and packed latents and with the indexer of sparse attention; its FLOPs, its memory and the
 * bytes it reads and writes against the planner's figures; and what it refuses. */
#include "tests/kvlatent.h"
#include "tests/kvplan.h"
#include "validate/decoder.h"

#define REST "hardware: {memory: 1GiB}\n"
/* Ranks of the latent and the query, sizes of a head's parts. */
#define LATENT(rank, q, nope, rope, more)                                                      \
    "model: {hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 4, mla: "          \
    "{kv_lora_rank: " #rank ", q_lora_rank: " #q ", nope_dim: " #nope ", rope_dim: " #rope     \
    ", v_dim: 24}, " more "}\n" REST
#define MLA LATENT(48, 24, 16, 16, "layers: 4")
#define SPARSE(heads, dim, topk)                                                               \
    LATENT(48, 24, 16, 16,                                                                     \
           "layers: 2, indexer: {heads: " #heads ", dim: " #dim ", top_k: " #topk "}")

#define SPARSE_STORED(v)                                                                       \
    "model: {layers: 2, hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 4, "    \
    "mla: {kv_lora_rank: 64, q_lora_rank: 32, nope_dim: 16, rope_dim: 16, v_dim: " #v "}, "    \
    "indexer: {heads: 8, dim: 64, top_k: 12}}\n" REST "weights: {format: fp8_block}\n"

enum { PROMPT = 37, OUTPUT = 4, SEQUENCES = 2 };
#define MARGIN 10 /* of one score among hundreds of thousands, in root mean squares */

struct fixture {
    struct kk *k;
    struct kp *p;
    struct decoder *x;
    struct ki picks;
};

static void open_it(struct kk *k, const char *yaml, uint32_t chunk, struct fixture *f)
{
    struct decoder_setting s = {.sequences = SEQUENCES,
                                .prompt = PROMPT,
                                .output = OUTPUT,
                                .seed = rng_next(&k->rng),
                                .chunk = chunk};
    const struct layout *l;

    *f = (struct fixture){.k = k, .p = kp_build(yaml)};
    kk_ok(k, decoder_open(k->d, &f->p->problem, &s, &f->x));
    l = &f->p->problem.layout;
    f->picks = ki_open(k->a, f->x, l->n_layers, l->layers[0].attn.index_topk, &s);
}

static void close_it(struct fixture *f)
{
    decoder_close(f->x);
    kt_u64(device_used_bytes(f->k->d), 0);
    kp_free(f->p);
}

/* --- numbers --------------------------------------------------------------------------------
 */

struct error {                      /* sums of squares */
    double ours, naive, size, most; /* most: the largest of ours */
    uint32_t n;
};

struct errors {
    struct error logits, *scores; /* [n_layers]: of indexers */
};

static void add_error(struct error *e, double got, double want, double naive)
{
    double ours = pow(got - want, 2);

    e->n++;
    e->ours += ours;
    e->most = fmax(e->most, ours);
    e->naive += pow(naive - want, 2);
    e->size += pow(want, 2);
}

static void compare(const struct fixture *f, uint32_t sequence, double *const logits[2],
                    struct error *e)
{
    uint32_t vocab = f->p->problem.model.vocab;
    float *got = ARENA_NEW(f->k->a, float, SEQUENCES *vocab);

    kk_ok(f->k, decoder_logits(f->x, got));
    for (uint32_t i = 0; i < vocab; i++)
        add_error(e, (double)got[sequence * vocab + i], logits[0][i], logits[1][i]);
}

/* No row left out is better than one chosen, but for what rounding may do to the scores of n
 * rows: the errors of a plain 16-bit program are the measure. */
static void choice(const struct ki_token *t, const double *want, const double *naive,
                   uint32_t n)
{
    double in = INFINITY, out = -INFINITY, squares = 0;

    for (uint32_t j = 0; j < n; j++) {
        squares += pow(naive[j] - want[j], 2);
        if (t->chosen[j])
            in = fmin(in, want[j]);
        else
            out = fmax(out, want[j]);
    }
    assert_true(out - in <= MARGIN * sqrt(squares / n));
}

/* At each layer with an indexer: the scores of a new token for all rows, and what follows. */
static void compare_scores(const struct fixture *f, const struct kl refs[2], uint32_t position,
                           struct error *e)
{
    for (uint32_t i = 0; i < refs->n; i++) {
        const struct ki_token *t = ki_at(&f->picks, i, refs->sequence, position);
        const double *want = refs[0].layers[i].scores + (size_t)position * KL_ROOM;
        const double *naive = refs[1].layers[i].scores + (size_t)position * KL_ROOM;
        if (!refs->layers[i].index_q)
            continue;
        for (uint32_t j = 0; j <= position; j++)
            add_error(&e[i], (double)t->scores[j], want[j], naive[j]);
        choice(t, want, naive, position + 1);
    }
}

/* Runs prompts and steps; the references follow the tokens that the decoder chose. */
static void follow(struct fixture *f, bool fp8, struct errors *e)
{
    uint32_t width = PROMPT + OUTPUT + 1, n = 0, vocab = f->p->problem.model.vocab;
    uint32_t *tokens = ARENA_NEW(f->k->a, uint32_t, SEQUENCES * width);
    double *logits[2] = {ARENA_NEW(f->k->a, double, vocab), ARENA_NEW(f->k->a, double, vocab)};
    struct kl refs[SEQUENCES][2];

    decoder_watch(f->x, ki_watch, &f->picks);
    kk_ok(f->k, decoder_prefill(f->x));
    for (uint32_t step = 0; step <= OUTPUT; step++) {
        uint32_t at = step ? PROMPT + step - 1 : 0;
        kk_ok(f->k, decoder_tokens(f->x, tokens, &n));
        kt_u64(n, PROMPT + step + 1);
        for (uint32_t s = 0; s < SEQUENCES; s++) {
            for (int naive = 0; naive < 2; naive++) {
                struct kl *r = &refs[s][naive];
                if (!step)
                    *r = kl_open(&f->picks, s, &f->p->problem.layout, fp8, naive);
                kl_tokens(r, tokens + s * width + at, step ? 1 : PROMPT, at, logits[naive]);
            }
            compare(f, s, logits, &e->logits);
            for (uint32_t i = at; i < PROMPT + step; i++)
                compare_scores(f, refs[s], i, e->scores);
        }
        if (step < OUTPUT)
            kk_ok(f->k, decoder_decode(f->x, 1));
    }
}

/* Error at most twice that of a plain 16-bit program, small beside the numbers, and nowhere as
 * large as they are. */
static void small(const struct error *e, const char *yaml, const char *what)
{
    if (e->ours <= 4 * e->naive && e->ours <= 0.01 * e->size && e->most * e->n <= e->size)
        return;
    print_error("%s: error of %s %g, of a plain program %g, of 1; the largest %g\n", yaml, what,
                sqrt(e->ours / e->size), sqrt(e->naive / e->size),
                sqrt(e->most * e->n / e->size));
    fail();
}

static void right(struct kk *k, const char *yaml, bool fp8, uint32_t chunk)
{
    struct errors e = {.scores = NULL};
    struct fixture f;

    open_it(k, yaml, chunk, &f);
    e.scores = ARENA_NEW(k->a, struct error, f.p->problem.layout.n_layers);
    follow(&f, fp8, &e);
    small(&e.logits, yaml, "logits");
    for (uint32_t i = 0; i < f.p->problem.layout.n_layers; i++)
        small(&e.scores[i], yaml, "scores");
    close_it(&f);
}

static void latent(void **state)
{
    right(*state, MLA, false, 0);
    right(*state, MLA, false, 8);
    right(*state, LATENT(64, 0, 16, 16, "layers: 4, tied_embeddings: true"), false, 0);
    right(*state, MLA "cache: {format: fp8_e4m3}\n", true, 0);
    right(*state, MLA "cache: {sharing: {scheme: cla, factor: 2}}\n", false, 0);
    right(
        *state,
        MLA
        "cache: {sharing: {scheme: lckv, warmup: 2, forward_passes: 2, backward_passes: 1}}\n",
        false, 0);
}

/* Fewer rows than a prompt has, and more; a choice that a layer above shares. */
static void sparse(void **state)
{
    for (int seed = 0; seed < (KT_SANITIZED ? 1 : 2); seed++) {
        right(*state, SPARSE(8, 64, 12), false, 0);
        right(*state, SPARSE(8, 64, 12), false, 8);
        right(*state, SPARSE(16, 32, 39), false, 0);
        right(*state, SPARSE(8, 128, 12) "cache: {sharing: {scheme: cla, factor: 2}}\n", false,
              0);
    }
}

/* Projections in every kind of codes and scales, as kernels/weight.h has them; the parts of a
 * head share blocks of scales, or have their own. */
static void stored(void **state)
{
    static const char *const formats[] = {"fp32", "fp8_channel", "fp8_block", "nvfp4",
                                          "gptq_g32"};
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        right(k,
              arena_printf(k->a,
                           "model: {layers: 2, hidden_size: 64, intermediate_size: 96, "
                           "vocab_size: 96, heads: 4, mla: {kv_lora_rank: 64, q_lora_rank: %u, "
                           "nope_dim: 16, rope_dim: 16, v_dim: 32}}\n" REST
                           "weights: {format: %s}\n",
                           i % 2 ? 32 : 0, formats[i]),
              false, i % 3 ? 0 : 8);
    right(k,
          "model: {layers: 2, hidden_size: 256, intermediate_size: 256, vocab_size: 96, heads: "
          "4, quantization: {format: q4_k}, mla: {kv_lora_rank: 256, nope_dim: 16, rope_dim: "
          "16, v_dim: 64}}\n" REST,
          false, 0);
    right(k, SPARSE_STORED(32), false, 0);
    right(k, SPARSE_STORED(32) "engine: {name: sglang}\n", false, 0);
    right(
        k,
        LATENT(
            64, 0, 16, 16,
            "layers: 2, max_position: 64") "weights: {format: gptq_g32}\nengine: {name: vllm, version: 0.19.0}\n",
        false, 0);
}

/* --- the planner's figures ------------------------------------------------------------------
 */

struct watched {
    struct device *d;
    uint64_t read, written, weights; /* bytes: of the cache, and of weights */
    double flop[N_OPS];
};

static void watch(void *user, const struct decoder_event *e)
{
    struct watched *w = user;
    struct tally t;

    assert_int_equal(device_tally(w->d, &t), DEVICE_OK);
    device_tally_reset(w->d);
    w->read += e->op == OP_SCORES || e->op == OP_INDEXER ? t.unique_read_bytes[TAG_K] : 0;
    w->written += t.unique_written_bytes[TAG_K];
    w->flop[e->op] += (double)t.issued.useful_flop;
    w->weights += e->op == OP_OTHER ? 0 : t.unique_read_bytes[TAG_WEIGHTS];
}

static void same_flop(const struct watched *w, const struct op_tally *want)
{
    static const enum op ops[] = {OP_QKV, OP_OUT, OP_INDEXER, OP_MLP, OP_HEAD};

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        kt_rel(w->flop[ops[i]], want->flop[ops[i]], 1e-12);
    kt_rel(w->flop[OP_SCORES], want->flop[OP_SCORES] + want->flop[OP_VALUES], 1e-12);
}

/* A prompt's products and reads, and those of steps, to the byte; and the cache in memory. */
static void as_planned(struct kk *k, const char *yaml)
{
    struct fixture f;
    struct ck ck = {0};
    struct decoder_memory m;
    uint64_t weights = 0, cache;

    open_it(k, yaml, 0, &f);
    const struct stage *stage = &f.p->problem.stages[0];
    for (int op = 0; op < N_OPS; op++)
        weights += stage->work.read_bytes[op];
    for (uint32_t step = 0; step <= OUTPUT; step++) {
        struct watched w = {.d = k->d};
        struct op_tally plan = {{0}, {0}};
        device_tally_reset(k->d);
        decoder_watch(f.x, watch, &w);
        kk_ok(k, step ? decoder_decode(f.x, 1) : decoder_prefill(f.x));
        if (!step) {
            work_prefill(&stage->work, &stage->fold, PROMPT, SEQUENCES, 0, &plan);
            same_flop(&w, &plan);
            continue;
        }
        work_decode(&stage->work, &stage->fold, PROMPT, step - 1, SEQUENCES, &plan);
        same_flop(&w, &plan);
        kt_u64(w.read, SEQUENCES * fold_decode_read_bytes(&stage->fold, PROMPT, step - 1, &ck));
        kt_u64(w.written, SEQUENCES * fold_decode_write_bytes(&stage->fold, &ck));
        kt_u64(w.weights, weights);
    }
    decoder_get_memory(f.x, &m);
    cache = SEQUENCES * fold_highest_bytes(&stage->fold, PROMPT, OUTPUT, 1, &ck);
    kt_u64(m.cache_bytes - m.cache_gap_bytes, cache);
    assert_true(m.weights_bytes - stage->work.weights_bytes < 256);
    kt_u64(m.total_bytes, device_used_bytes(k->d));
    close_it(&f);
}

/* Chunks after the first expand the latents before them again: FLOPs of the whole, by part. */
static void chunks(void **state)
{
    struct kk *k = *state;
    struct op_tally plan = {{0}, {0}}, whole = {{0}, {0}};
    struct watched w = {.d = k->d};
    struct fixture f;

    open_it(k, MLA "cache: {sharing: {scheme: cla, factor: 2}}\n", 8, &f);
    const struct stage *stage = &f.p->problem.stages[0];
    device_tally_reset(k->d);
    decoder_watch(f.x, watch, &w);
    kk_ok(k, decoder_prefill(f.x));
    for (uint64_t at = 0; at < PROMPT; at += 8)
        work_prompt(
            &stage->work, &stage->fold,
            (struct work_part){at, u64_min(at + 8, PROMPT), SEQUENCES, at + 8 >= PROMPT},
            &plan);
    same_flop(&w, &plan);
    /* 0 + 8 + .. + 32 tokens more, of 4 layers: 4 heads of (16 + 24) x 48, 2 FLOP each */
    work_prefill(&stage->work, &stage->fold, PROMPT, SEQUENCES, 0, &whole);
    kt_rel(plan.flop[OP_QKV] - whole.flop[OP_QKV], SEQUENCES * 80.0 * 4 * 4 * 40 * 48 * 2,
           1e-12);
    close_it(&f);
}

static void planned(void **state)
{
    as_planned(*state, MLA);
    as_planned(*state, LATENT(512, 0, 16, 16, "layers: 2") "cache: {format: fp8_ds_mla}\n");
    as_planned(*state, MLA "cache: {sharing: {scheme: cla, factor: 2}, format: fp8_e4m3}\n");
    as_planned(*state, SPARSE(8, 128, 12));
}

/* --- what the reference does not have, and refusals -----------------------------------------
 */

static void runs(void **state)
{
    static const char *const specs[] = {
        MLA "cache: {format: fp16}\n",
        MLA "cache: {format: int8_per_token_head}\nengine: {block_tokens: 16}\n",
        LATENT(
            48, 24, 16, 16,
            "layers: 4, indexer: {heads: 8, dim: 128, top_k: 12}") "cache: {format: fp8_e4m3, sharing: {scheme: cla, factor: 2}}\n",
        "model: {layers: 2, hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 4, "
        "mla: {kv_lora_rank: 32, nope_dim: 16, rope_dim: 16, v_dim: 16}}\nhardware: {memory: "
        "1GiB, count: 2}\nparallel: {tp: 2}\n",
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        float logits[SEQUENCES * 96];
        struct fixture f;
        open_it(k, specs[i], 0, &f);
        kk_ok(k, decoder_prefill(f.x));
        kk_ok(k, decoder_decode(f.x, OUTPUT));
        kk_ok(k, decoder_logits(f.x, logits));
        for (size_t j = 0; j < (size_t)SEQUENCES * f.p->problem.model.vocab / (i == 3 ? 2 : 1);
             j++)
            assert_true(isfinite(logits[j]) && fabsf(logits[j]) < 20);
        close_it(&f);
    }
}

static void refused(void **state)
{
    static const struct {
        const char *yaml, *why;
    } cases[] = {
        {LATENT(48, 24, 12, 16, "layers: 2"),
         "MLA: heads and the query's rank of a multiple of 8 elements"},
        {LATENT(48, 24, 16, 24, "layers: 2"),
         "MLA: a rope part of a multiple of 16 elements, heads of at most 256"},
        {LATENT(40, 24, 16, 16, "layers: 2"),
         "a latent has a multiple of 16 elements, up to 512"},
        {MLA "cache: {format: {scheme: int4, group: 16}}\n",
         "latents are stored in 16 or 8 bits"},
        {MLA "cache: {format: fp8_ds_mla}\n", "fp8_ds_mla is for latents of 512"},
        {MLA "cache: {format: nvfp4_ds_mla}\n", "no kernel has this storage format"},
        {MLA "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 8}}\n",
         "no kernel drops latents"},
        {"model: {layers: 2, hidden_size: 64, intermediate_size: 96, vocab_size: 96, heads: 4, layer_types: [a, b], layer_kinds: {a: {kv_heads: 2, head_dim: 32}, b: {mixer: latent, mla: {kv_lora_rank: 32, nope_dim: 16, rope_dim: 16, v_dim: 32}}}}\n" REST,
         "layers with latents beside others without are not run"},
        {LATENT(48, 32, 16, 16, "layers: 2, quantization: {format: fp8}"),
         "weights in fp8: rows of a multiple of 32 elements"},
        {SPARSE_STORED(24), "parts of self_attn.kv_b_proj in fp8_block: a multiple of 16 rows"},
        {SPARSE(4, 128, 12),
         "an indexer has a multiple of 8 heads, of a multiple of 32 elements, up to 128"},
        {SPARSE(8, 48, 12),
         "an indexer has a multiple of 8 heads, of a multiple of 32 elements, up to 128"},
        {SPARSE(8, 64, 12) "cache: {format: fp16}\n", "fp16 is for the cache as a whole"},
        {LATENT(
             48, 24, 16, 16,
             "layers: 4, indexer: {heads: 8, dim: 128, top_k: 12}") "cache: {sharing: {scheme: lckv, warmup: 2, forward_passes: 1, backward_passes: 1}}\n",
         "a selection under a masked diagonal is not run"},
    };
    struct kk *k = *state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kp *p = kp_build(cases[i].yaml);
        struct decoder_setting s = {.sequences = 1, .prompt = PROMPT};
        struct device_text why;
        struct decoder *x;
        assert_false(decoder_supports(&p->problem, &why));
        kt_same(why.text, cases[i].why);
        kk_unsupported(k, decoder_open(k->d, &p->problem, &s, &x), cases[i].why);
        kp_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kk_test(latent),     kk_reversed(latent), kk_test(sparse),
        kk_reversed(sparse), kk_test(stored),     kk_test(planned),
        kk_test(chunks),     kk_test(runs),       kk_test(refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
