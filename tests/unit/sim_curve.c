/* Curves against the planner's own functions asked at every step: for every scheme there is, on
 * models with every kind of row. What is compared with is summed here row by row. */
#include "sim/curve.h"

#include "planner/plan/capacity.h"
#include "sim/stretch.h"
#include "tests/kvplan.h"

#define GPU "hardware: {gpu: {memory: 2TiB, bandwidth: 3350GB/s, bf16: 989TFLOPS}}\n"
#define WORK "workload: {prompt: 300, output: 200, batch: 1}\n"

/* Shapes small enough to be walked through, big enough for every rule. */
static const char llama[] =
    "model: {layers: 8, hidden_size: 1024, intermediate_size: 2048, heads: 16, kv_heads: 4, "
    "head_dim: 64, vocab_size: 32000}\n";
static const char *const named[] = {
    "model: gemma-3-1b-it\n",
    "model: gemma-3n-e2b\n",
    "model: deepseek-v2-lite\n",
    "model: deepseek-v3.2\n",
    "model: falcon-h1-0.5b-base\n",
    "model: ai21-jamba-1.5-mini\n",
    "model: gpt-oss-20b\n",
    "model: qwen3-next-80b-a3b-instruct\n",
    "model: llama-4-scout-17b-16e-instruct\n",
};
enum { NAMED = sizeof named / sizeof *named };

/* --- every step ------------------------------------------------------------------------ */

/* FLOP of scores and values, and bytes of the cache, of one sequence's decode step. */
static void step_of(const struct problem *p, const struct stage *s, uint64_t n,
                    uint64_t decoded, double out[4])
{
    struct phase ph = {n, decoded};
    struct extra_cost e;
    struct ck ck = {0};

    out[0] = out[1] = 0;
    for (uint32_t i = 0; i < s->fold.n_reads; i++) {
        const struct read_class *c = &s->fold.reads[i];
        uint64_t keys = row_attended_tokens(&c->reader, &c->source, n, decoded);
        keys = (keys + s->fold.slice.cp - 1) / s->fold.slice.cp;
        out[0] += 2.0 * c->count * (double)keys * c->reader.q_heads *
                  (c->reader.score_dim + c->reader.value_dim);
        out[1] += (double)c->count * (double)row_bytes(&c->source, n, keys, &ck);
    }
    scheme_costs(p->uses, p->n_uses, &p->layout, &ph, &e);
    out[2] = e.decode_flop;
    out[3] = (double)(e.decode_read_bytes + e.decode_write_bytes);
}

static void piece_at(const struct curve *c, const struct curve_piece *p, uint64_t i,
                     double out[4])
{
    memset(out, 0, 4 * sizeof *out);
    for (uint32_t g = 0; g < c->n_reads; g++) {
        double keys = (double)(p->keys[g].value + p->keys[g].slope * (int64_t)i);
        double bytes = (double)(p->bytes[g].value + p->bytes[g].slope * (int64_t)i);
        const struct curve_group *k = &c->groups[g];
        if (k->scheme) {
            out[2] += keys * CURVE_FLOP;
            out[3] += bytes;
            continue;
        }
        out[0] += keys * (k->scores_flop + k->values_flop);
        out[1] += bytes;
    }
}

/* Walks a decode piece by piece and looks at every step of it; returns the pieces. */
static uint64_t walk_reads(const struct curve *c, uint64_t n, uint64_t steps)
{
    uint64_t pieces = 0;

    for (uint64_t at = 0; at < steps; pieces++) {
        struct curve_piece p;
        uint64_t end;
        curve_reads(c, n, at, &p);
        assert_true(p.steps > 0);
        end = u64_min(p.steps, steps - at);
        for (uint64_t i = 0; i < end; i++) {
            double want[4], got[4];
            step_of(c->problem, c->stage, n, at + i, want);
            piece_at(c, &p, i, got);
            if (got[0] != want[0] || got[1] != want[1] || got[3] != want[3] ||
                got[2] - want[2] > 0.001 || want[2] - got[2] > 0.001) {
                print_error("prompt %llu, step %llu + %llu of %llu\n", (unsigned long long)n,
                            (unsigned long long)at, (unsigned long long)i,
                            (unsigned long long)p.steps);
                for (int k = 0; k < 4; k++)
                    print_error("%.17g, not %.17g\n", got[k], want[k]);
                fail();
            }
        }
        at += end;
    }
    return pieces;
}

/* Blocks of one kind, from the rules of planner/engine/pool written again. */
static uint64_t blocks_of(const struct pool *pool, const struct pool_kind *k, uint64_t n,
                          uint64_t decoded)
{
    struct cache_row r = k->row;
    uint64_t block = k->block_tokens * pool->cp, tokens, whole, seen;

    if (r.stream == STREAM_STATE)
        return 1;
    r.store_window_tokens = 0;
    tokens = row_running_tokens(&r, n, decoded);
    whole = (tokens + block - 1) / block;
    if (!k->row.store_window_tokens)
        return whole;
    seen = u64_min(k->row.store_window_tokens + (k->row.mixer == MIXER_CHUNKED), tokens);
    seen = (seen + block - 1) / block + (k->row.mixer != MIXER_CHUNKED);
    return u64_min(seen, whole);
}

/* Bytes that a stage hands out for a sequence at a step. */
static uint64_t held_bytes(const struct problem *p, const struct stage *s, uint64_t n,
                           uint64_t decoded)
{
    uint64_t persistent = 0, transient, blocks = 0;
    struct phase ph = {n, decoded};
    struct ck ck = {0};

    if (s->pool.block_bytes) {
        for (uint32_t i = 0; i < s->pool.n_kinds; i++)
            blocks +=
                s->pool.kinds[i].groups * blocks_of(&s->pool, &s->pool.kinds[i], n, decoded);
        return blocks * s->pool.block_bytes;
    }
    capacity_extra(p, s, &ph, &persistent, &transient);
    return fold_running_bytes(&s->fold, n, decoded, p->block_tokens, &ck) + persistent;
}

static uint64_t bytes_of(const struct curve_store *m, const uint64_t *tokens)
{
    uint64_t units = 0;

    for (uint32_t i = 0; i < m->n_kinds; i++) {
        uint64_t block = m->kinds[i].block_tokens;
        uint64_t pages = block ? (tokens[i] + block - 1) / block : tokens[i] > 0;
        units += pages * m->kinds[i].page_units;
    }
    return units * m->unit_bytes;
}

/* The same of pages; returns the most bytes. The last step of a stretch may hold less than its
 * line says. */
static uint64_t walk_held(const struct curve *c, const struct curve_store *m, uint64_t n,
                          uint64_t steps)
{
    uint64_t most = 0;

    for (uint64_t at = 0; at <= steps;) {
        struct curve_point held[CURVE_CLASSES];
        uint64_t stretch, end;
        curve_held_decode(c, m, n, at, held, &stretch);
        assert_true(stretch > 0);
        end = u64_min(stretch, steps - at + 1);
        for (uint64_t i = 0; i <= end && at + i <= steps; i++) {
            uint64_t want = held_bytes(c->problem, c->stage, n, at + i), got;
            uint64_t tokens[CURVE_CLASSES];
            for (uint32_t k = 0; k < m->n_kinds; k++) {
                assert_true(held[k].slope >= 0);
                tokens[k] = (uint64_t)(held[k].value + held[k].slope * (int64_t)i);
            }
            got = bytes_of(m, tokens);
            if (i == end && i == stretch && got > want)
                continue;
            if (got != want)
                print_error("prompt %llu, step %llu + %llu of %llu\n", (unsigned long long)n,
                            (unsigned long long)at, (unsigned long long)i,
                            (unsigned long long)stretch);
            kt_u64(got, want);
            most = u64_max(most, got);
        }
        at += end;
    }
    return most;
}

/* --- peaks ------------------------------------------------------------------------------- */

/* One sequence alone peaks at what the planner says of it. Where residual windows of several
 * formats crest at different steps the planner adds the crests up. */
static void check_peaks(const struct curve *c, const struct curve_store *m, uint64_t n,
                        uint64_t steps, uint64_t decode)
{
    const struct problem *p = c->problem;
    const struct stage *s = c->stage;
    uint64_t persistent = 0, transient = 0, held[CURVE_CLASSES], prefill;
    struct phase ph = {n, 0};
    struct ck ck = {0};

    curve_held_prefill(c, m, n, n, held);
    prefill = bytes_of(m, held);
    if (s->pool.block_bytes) {
        kt_u64(decode, pool_highest_blocks(&s->pool, n, steps) * s->pool.block_bytes);
        kt_u64(prefill, pool_prefill_blocks(&s->pool, n) * s->pool.block_bytes);
        return;
    }
    capacity_extra(p, s, &ph, &persistent, &transient);
    kt_u64(prefill,
           fold_prefill_peak_bytes(&s->fold, n, p->block_tokens, &ck) + persistent + transient);
    uint64_t highest = fold_highest_bytes(&s->fold, n, steps, p->block_tokens, &ck);
    if (p->n_uses == 0)
        kt_u64(decode, highest);
    ph.decoded = steps;
    capacity_extra(p, s, &ph, &persistent, &transient);
    assert_true(decode <= highest + persistent);
}

static void check_rows(const struct problem *p, uint64_t n, uint64_t steps)
{
    for (uint32_t i = 0; i < p->layout.n_rows; i++) {
        const struct cache_row *r = &p->layout.rows[i];
        uint64_t most = 0;
        if (i && !r->keep.peak)
            continue;
        for (uint64_t k = 0; k <= steps; k++)
            most = u64_max(most, row_running_tokens(r, n, k));
        kt_u64(most, row_peak_tokens(r, n, steps));
    }
}

static void check_problem(const struct problem *p, uint64_t steps)
{
    static const uint64_t prompts[] = {1, 17, 300, 1500, 8150, 9000};
    struct diag *d = diag_new(p->arena);

    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct curve *c = ARENA_NEW(p->arena, struct curve, 1);
        struct curve_store *m = ARENA_NEW(p->arena, struct curve_store, 1);
        assert_true(curve_build(p->arena, p, i, false, d, c));
        if (!curve_store_build(p, i, d, m))
            diag_print(d, 0, true, stderr);
        assert_false(diag_failed(d));
        for (size_t k = 0; k < sizeof prompts / sizeof *prompts; k++) {
            walk_reads(c, prompts[k], steps);
            if (p->engine->need || p->stages[i].budget.reserved)
                continue;
            check_peaks(c, m, prompts[k], steps, walk_held(c, m, prompts[k], steps));
            check_rows(p, prompts[k], steps);
        }
    }
}

/* --- schemes ----------------------------------------------------------------------------- */

/* Applies one scheme to a model; false when it refuses. */
static bool check_scheme(const char *model, const struct scheme *s, const char *name,
                         uint64_t steps)
{
    static const char *const keys[] = {"sharing", "eviction", "format"};
    struct arena *a = arena_new();
    const char *params = s->compare && s->axis != AXIS_STORAGE ? s->compare : "{}";
    const char *text = arena_printf(a, "%s", params + 1);
    bool bare = !strcmp(params, "{}"), ok;
    struct kp *k;

    if (s->axis == AXIS_STORAGE)
        text = arena_printf(a, "%s" GPU WORK "cache: {format: %s}\n", model, name);
    else
        text = arena_printf(a, "%s" GPU WORK "cache: {%s: {scheme: %s%s%s}\n", model,
                            keys[s->axis], name, bare ? "" : ", ", text);
    k = kp_try(text);
    ok = k->ok;
    if (ok)
        check_problem(&k->problem, steps);
    kp_free(k);
    arena_free(a);
    return ok;
}

static uint64_t check_schemes(const char *model, uint64_t steps)
{
    uint64_t n = 0;

    for (size_t i = 0; scheme_at(i); i++) {
        const struct scheme *s = scheme_at(i);
        for (size_t v = 0; s->names[v] && !s->unsupported; v++)
            n += check_scheme(model, s, s->names[v], steps);
    }
    return n;
}

static void every_scheme(void **state)
{
    (void)state;
    assert_true(check_schemes(llama, 1200) >= 65); /* the rest want latents or other keys */
}

static void every_scheme_on_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMED; i++) {
        uint64_t n = check_schemes(named[i], 60);
        if (n < 10)
            print_error("%s: %llu\n", named[i], (unsigned long long)n);
        assert_true(n >= 10);
    }
}

/* What a spec says besides the model: rules that saw, residual windows on top of them, blocks,
 * ranks and stages. */
static const char *const specs[] = {
    "cache: {eviction: {scheme: l2norm, schedule: every_step, keep_ratio: 0.9, prune_after: 400}}\n",
    "cache: {eviction: {scheme: l2norm, schedule: every_step, keep_ratio: 0.99, prune_after: 7}}\n",
    "cache: {eviction: {scheme: decoding-press, interval: 37, target: 310}}\n",
    "cache: {eviction: {scheme: decoding-press, interval: 512, target: 64}, format: kivi2}\n",
    "cache: {eviction: {scheme: h2o, mode: flexgen, heavy_ratio: 0.1, hh_all: true}}\n",
    "cache: {eviction: {scheme: h2o, heavy: 100, recent: 200}, format: kivi4}\n",
    "cache: {eviction: {scheme: h2o, mode: mask}}\n",
    "cache: {eviction: {scheme: streamingllm, sinks: 4, recent: 600}, format: kivi2}\n",
    "cache: {eviction: {scheme: streamingllm, recent: 600}, format: hf_quantized}\n",
    "cache: {eviction: {scheme: duoattention, full_heads: 2, recent: 600}, sharing: cla}\n",
    "cache: {eviction: {scheme: think}}\n",
    "cache: {sharing: lckv, eviction: {scheme: tova, capacity: 512}, format: q8_0}\n",
    "engine: {block_tokens: 16}\n",
    "engine: {block_tokens: 16}\ncache: {eviction: {scheme: pyramidkv, capacity: 512}}\n",
    "engine: {name: vllm}\n",
    "engine: {name: trtllm}\n",
    "engine: {name: sglang}\n",
    "engine: {name: vllm}\nparallel: {tp: 2, pp: 2}\n",
    "engine: {name: vllm}\nparallel: {cp: 3}\n",
    "parallel: {cp: 3}\n",
    "parallel: {cp: 2, tp: 2, pp: 3}\nengine: {name: trtllm}\n",
};

static struct kp *build(const char *model, const char *more)
{
    struct arena *a = arena_new();
    struct kp *k = kp_build(arena_printf(a, "%s%s" WORK "%s", model, GPU, more));

    arena_free(a);
    return k;
}

static void rules_blocks_and_ranks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        struct kp *k = build(llama, specs[i]);
        check_problem(&k->problem, 1300);
        kp_free(k);
    }
}

static void engines_on_models(void **state)
{
    static const char *const engines[] = {"engine: {name: vllm}\n", "engine: {name: trtllm}\n",
                                          "engine: {name: sglang}\n"};
    (void)state;
    for (size_t i = 0; i < NAMED; i++) {
        for (size_t e = 0; e < sizeof engines / sizeof *engines; e++) {
            struct kp *k = build(named[i], engines[e]);
            check_problem(&k->problem, 700);
            kp_free(k);
        }
    }
}

/* --- by hand -------------------------------------------------------------------------------
 */

static struct curve *curve_of(struct kp *k, bool context)
{
    struct curve *c = ARENA_NEW(k->arena, struct curve, 1);

    assert_true(curve_build(k->arena, &k->problem, 0, context, k->diag, c));
    return c;
}

/* 8 layers of 4 K/V heads of 64 in bf16: 8 x 1024 B a token. One line for all time. */
static void a_plain_model(void **state)
{
    (void)state;
    struct kp *k = build(llama, "");
    struct curve *c = curve_of(k, false);
    struct curve_store m;
    struct curve_piece p;
    struct curve_point held[CURVE_CLASSES];
    uint64_t steps;

    assert_true(c->affine && c->even_chunks && c->even_bytes);
    kt_u64(c->n_reads, 1);
    curve_reads(c, 100, 20, &p);
    kt_u64(p.steps, CURVE_FOREVER);
    kt_u64((uint64_t)p.keys[0].value, 8 * 121);
    kt_u64((uint64_t)p.keys[0].slope, 8);
    kt_u64((uint64_t)p.bytes[0].value, 8 * 1024 * 121);
    kt_u64((uint64_t)p.bytes[0].slope, 8 * 1024);
    assert_true(curve_store_build(&k->problem, 0, k->diag, &m));
    kt_u64(m.n_kinds, 1);
    kt_u64(m.unit_bytes, 1);
    kt_u64(m.units, k->problem.stages[0].budget.kv_pool_bytes);
    curve_held_decode(c, &m, 100, 20, held, &steps);
    kt_u64(steps, CURVE_FOREVER);
    kt_u64((uint64_t)held[0].value, 8 * 1024 * 120);
    kt_u64((uint64_t)held[0].slope, 8 * 1024);
    c = curve_of(k, true);
    curve_reads(c, 100, 20, &p);
    kt_u64((uint64_t)p.keys[0].value, 120); /* cached tokens */
    kt_u64((uint64_t)p.keys[0].slope, 1);
    kp_free(k);
}

/* Gemma 3 1B: 22 layers see 512 tokens, 4 see all: the line bends once, 512 - 101 steps after
 * the step that sees 101. */
static void a_window(void **state)
{
    (void)state;
    struct kp *k = build(named[0], "engine: {name: vllm}\n");
    struct curve *c = curve_of(k, false);
    struct curve_piece p;

    curve_reads(c, 100, 0, &p);
    kt_u64(p.steps, 512 - 101 + 1);
    kt_u64((uint64_t)p.keys[0].slope, 26);
    curve_reads(c, 100, 412, &p);
    kt_u64(p.steps, CURVE_FOREVER);
    kt_u64((uint64_t)p.keys[0].slope, 4);
    kt_u64((uint64_t)p.keys[0].value, 22 * 512 + 4 * 513);
    kp_free(k);
}

/* Slots are pages, whatever the sequence; what is longer than a slot is the caller's to refuse.
 */
static void slots(void **state)
{
    (void)state;
    struct kp *k = build(llama, "engine: {name: llamacpp, n_seq: 4, kv_unified: false}\n");
    struct curve *c = curve_of(k, false);
    struct curve_store m;
    struct curve_point held[CURVE_CLASSES];
    uint64_t tokens[CURVE_CLASSES], steps;

    assert_true(curve_store_build(&k->problem, 0, k->diag, &m));
    kt_u64(m.units, 4);
    kt_u64(m.kinds[0].block_tokens, 0);
    kt_u64(m.slot_tokens, 512); /* 500 tokens, in cells of 256 */
    kt_u64(m.units * m.unit_bytes, 4ull * 512 * 8 * 1024);
    curve_held_decode(c, &m, 100, 20, held, &steps);
    kt_u64((uint64_t)held[0].value, 1);
    kt_u64(steps, CURVE_FOREVER);
    curve_held_prefill(c, &m, 100, 10, tokens);
    kt_u64(tokens[0], 1);
    kp_free(k);
}

/* Half of the cache in host memory: twice the units, until the host is full. */
static void offloaded(void **state)
{
    (void)state;
    struct kp *k = build(llama, "cache: {offload: 0.5}\n");
    struct curve_store m;
    uint64_t pool = k->problem.stages[0].budget.kv_pool_bytes;

    assert_true(curve_store_build(&k->problem, 0, k->diag, &m));
    kt_u64(m.units, 2 * pool);
    k->problem.host_bytes = 1 << 30;
    assert_true(curve_store_build(&k->problem, 0, k->diag, &m));
    kt_u64(m.units, 2ull << 30);
    kp_free(k);
}

/* The context is given and its slots are shorter than what the workload asks for. */
static void short_slots(void **state)
{
    (void)state;
    struct kp *k = build(llama, "engine: {name: llamacpp, max_model_len: 1024, n_seq: 4, "
                                "kv_unified: false}\n");
    struct curve_store m;

    assert_false(curve_store_build(&k->problem, 0, k->diag, &m));
    kp_says(k, "a slot holds 256 tokens, workload.prompt and workload.output are 500");
    kt_u64((uint64_t)diag_exit(k->diag), 4);
    kp_free(k);
}

static void no_memory(void **state)
{
    (void)state;
    struct kp *k = kp_build("model: {layers: 4, hidden_size: 256, intermediate_size: 512, "
                            "heads: 4, kv_heads: 2, head_dim: 64, vocab_size: 1000}\n"
                            "hardware: {memory: 1MiB}\n");
    struct curve_store m;

    assert_false(curve_store_build(&k->problem, 0, k->diag, &m));
    kp_says(k, "there is no memory for a cache on stage 1: nothing can be simulated");
    kt_u64((uint64_t)diag_exit(k->diag), 4);
    kp_free(k);
}

/* --- stretches -----------------------------------------------------------------------------
 */

/* A slope of 3, a jump at step 1000, and once at step 37 where `of` says so. */
static void bent(const void *of, uint64_t i, int64_t v[STRETCH_VALUES])
{
    const bool *blip = of;

    v[0] = 3 * (int64_t)i + (i >= 1000 ? 1 : 0);
    v[1] = *blip && i >= 37 && i < 300 ? 1 : 0;
}

static void stretches(void **state)
{
    (void)state;
    struct curve_point p[STRETCH_VALUES];
    bool blip = false;

    kt_u64(stretch_find(bent, &blip, CURVE_FOREVER, p), 1000);
    kt_u64((uint64_t)p[0].slope, 3);
    blip = true;
    kt_u64(stretch_find(bent, &blip, CURVE_FOREVER, p), 37);
    kt_u64(stretch_clipped(5, 5).steps, CURVE_FOREVER);
    kt_u64((uint64_t)stretch_clipped(5, 5).at.slope, 0);
    kt_u64(stretch_clipped(5, 8).steps, 4);
    kt_u64(stretch_clipped(5, UINT64_MAX).steps, CURVE_FOREVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scheme),
        cmocka_unit_test(every_scheme_on_models),
        cmocka_unit_test(rules_blocks_and_ranks),
        cmocka_unit_test(engines_on_models),
        cmocka_unit_test(a_plain_model),
        cmocka_unit_test(a_window),
        cmocka_unit_test(slots),
        cmocka_unit_test(offloaded),
        cmocka_unit_test(short_slots),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(stretches),
    };
    return cmocka_run_group_tests_name("sim_curve", tests, NULL, NULL);
}
