/* Steps against the plan (a batch of decodes alone, a prompt alone), and series of mixed steps
 * against a roofline summed here sequence by sequence and step by step. */
#include "sim/step.h"

#include "planner/base/rng.h"
#include "tests/kvplan.h"

#define GPU "hardware: {gpu: {memory: 2TiB, bandwidth: 3350GB/s, bf16: 989TFLOPS}}\n"

static struct step_model *model_of(struct kp *k)
{
    struct step_model *m = ARENA_NEW(k->arena, struct step_model, 1);
    struct step_options opt = {0, NULL};
    bool ok = step_build(k->arena, &k->problem, &opt, k->diag, m);

    if (!ok)
        diag_print(k->diag, 0, true, stderr);
    assert_true(ok);
    return m;
}

static void add_decode(const struct step_model *m, uint64_t n, uint64_t decoded,
                       uint64_t *steps, struct step_batch *b)
{
    for (uint32_t i = 0; i < m->n_stages; i++) {
        struct curve_piece p;
        curve_reads(&m->curves[i], n, decoded, &p);
        step_batch_add(b, i, m->curves[i].n_reads, &p, 1);
        *steps = u64_min(*steps, p.steps);
    }
    b->decodes++;
}

/* --- the plan ------------------------------------------------------------------------------
 */

static const char *const specs[] = {
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\nengine: {name: vllm}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\nengine: {name: llamacpp}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\nengine: {name: hf}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb, count: 4}\n"
    "parallel: {tp: 2, pp: 2}\nengine: {name: vllm}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb, count: 4}\n"
    "parallel: {cp: 2, dp: 2}\n",
    "model: gemma-3-4b-it\nhardware: {gpu: h100-sxm-80gb}\nengine: {name: vllm}\n",
    "model: deepseek-v2-lite\nhardware: {gpu: h100-sxm-80gb, count: 2}\n"
    "parallel: {tp: 2}\nengine: {name: sglang}\n",
    "model: deepseek-v3.2\nhardware: {gpu: h200-sxm-141gb, count: 8}\n"
    "parallel: {tp: 8, ep: 8}\nengine: {name: vllm}\n",
    "model: falcon-h1-7b-base\nhardware: {gpu: h100-sxm-80gb}\nengine: {name: vllm}\n",
    "model: ai21-jamba-1.5-mini\nhardware: {gpu: h200-sxm-141gb}\n",
    "model: qwen3-next-80b-a3b-instruct\nhardware: {gpu: h200-sxm-141gb, count: 2}\n"
    "parallel: {tp: 2}\nengine: {name: vllm}\n",
    "model: gpt-oss-20b\nhardware: {gpu: h100-sxm-80gb}\nengine: {name: trtllm}\n",
    "model: llama-4-scout-17b-16e-instruct\nhardware: {gpu: h200-sxm-141gb, count: 4}\n"
    "parallel: {tp: 4}\n",
    "model: gemma-3n-e2b\nhardware: {gpu: h100-sxm-80gb}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\n"
    "cache: {eviction: {scheme: pyramidkv, capacity: 512}}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\n"
    "cache: {eviction: {scheme: streamingllm, recent: 600}, format: kivi4}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\n"
    "cache: {eviction: {scheme: h2o, heavy: 200, recent: 200}}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\ncache: {sharing: lckv}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\ncache: {sharing: yoco}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: rtx-4090, count: 2}\n"
    "parallel: {tp: 2}\nengine: {name: vllm}\n",
    "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb, host_memory: 256GiB}\n"
    "weights: {offload_layers: 8}\ncache: {offload: 0.5}\n",
    "model: falcon-h1-7b-base\nhardware: {gpu: h100-sxm-80gb, host_memory: 256GiB}\n"
    "cache: {offload: 0.9}\n",
};
enum { SPECS = sizeof specs / sizeof *specs };

static struct kp *spec_of(size_t i, const char *workload)
{
    struct arena *a = arena_new();
    struct kp *k = kp_build(arena_printf(a, "%sworkload: %s\n", specs[i], workload));

    arena_free(a);
    return k;
}

/* A batch of equal decodes takes what the plan says of it. */
static void decodes_alone(void **state)
{
    static const char *const works[] = {
        "{prompt: 1000, output: 501, batch: 8}", "{prompt: 100, output: 60, batch: 64}",
        "{prompt: 7, output: 2, batch: 2}", "{prompt: 9000, output: 3001, batch: 200}"};

    (void)state;
    for (size_t i = 0; i < SPECS; i++) {
        for (size_t w = 0; w < sizeof works / sizeof *works; w++) {
            struct kp *k = spec_of(i, works[w]);
            struct step_model *m = model_of(k);
            struct step_batch b = {.decodes = 0};
            struct step_line line;
            uint64_t steps = CURVE_FOREVER;
            struct plan plan;
            plan_solve(&k->problem, &k->problem.workload, &plan);
            for (uint64_t s = 0; s < plan.batch / k->problem.parallel.dp; s++)
                add_decode(m, plan.decode_prompt, plan.decode_decoded, &steps, &b);
            step_prepare(m, &b, &line);
            kt_rel(step_sum_s(&line, 1), plan.decode_s, 1e-12);
            kp_free(k);
        }
    }
}

/* So does a prompt in one chunk, of any length, and a batch of equal ones. */
static void prompts_alone(void **state)
{
    static const uint64_t prompts[] = {1, 5, 9, 63, 65, 700, 5000};

    (void)state;
    for (size_t i = 0; i < SPECS; i++) {
        for (size_t w = 0; w < sizeof prompts / sizeof *prompts; w++) {
            for (uint64_t batch = 1; batch <= 4; batch += 3) {
                struct kp *k = spec_of(i, "{prompt: 100, output: 10, batch: 4}");
                struct step_model *m = model_of(k);
                struct step_batch b = {.decodes = 0};
                struct step_line line;
                struct plan plan;
                k->problem.workload.prompt = prompts[w];
                k->problem.workload.output = 0;
                k->problem.workload.batch = batch * k->problem.parallel.dp;
                plan_solve(&k->problem, &k->problem.workload, &plan);
                for (; b.n_chunks < batch; b.n_chunks++)
                    b.chunks[b.n_chunks] = (struct step_chunk){prompts[w], 0, prompts[w], true};
                step_prepare(m, &b, &line);
                kt_rel(step_sum_s(&line, 1), plan.prefill_s, 1e-12);
                kp_free(k);
            }
        }
    }
}

/* --- mixed batches -------------------------------------------------------------------------
 */

enum { DECODES = 40 };

struct mix { /* a batch as sequences */
    uint64_t prompt[DECODES], decoded[DECODES], decodes;
    struct step_chunk chunks[3];
    uint32_t n_chunks;
    bool stride;
};

/* Keys the tokens [from, to) of a prompt see, one after another. */
static double pairs_of(const struct cache_row *r, uint64_t from, uint64_t to)
{
    bool latent = r->select_tokens && r->mixer == MIXER_LATENT && r->stream == STREAM_LATENT;
    uint64_t window = latent ? r->select_tokens : r->window_tokens;
    double sum = 0;

    for (uint64_t t = from; t < to; t++) {
        uint64_t at = r->mixer == MIXER_CHUNKED && window ? t % window : t;
        uint64_t keys = at + 1 - r->diagonal_masked;
        if (r->mixer != MIXER_CHUNKED && window)
            keys = u64_min(keys, window);
        sum += (double)keys;
    }
    return sum;
}

/* Keys that a query of [from, to) sees, one by one. */
static uint64_t keys_seen(const struct cache_row *r, uint64_t from, uint64_t to)
{
    uint64_t n = 0;

    for (uint64_t key = 0; key < to; key++) {
        bool seen = false;
        uint64_t first = u64_max(from, key); /* later ones see no more, but of themselves */
        for (uint64_t q = first; q < to && q < first + 2 && !seen; q++) {
            uint64_t w = r->window_tokens;
            bool near = !w || (r->mixer == MIXER_CHUNKED ? q / w == key / w
                                                         : q - key < w + r->diagonal_masked);
            seen = near && (!r->diagonal_masked || q > key);
        }
        n += seen;
    }
    return n;
}

static void sum_chunk(const struct stage *s, const struct step_chunk *k, struct op_tally *t)
{
    uint64_t from = k->offset, to = from + k->tokens;
    struct ck ck = {0};

    for (uint32_t i = 0; i < s->fold.n_reads; i++) {
        const struct read_class *c = &s->fold.reads[i];
        const struct cache_row *r = &c->reader;
        double flop = pairs_of(r, from, to) * (double)(c->passes - c->early_passes);
        uint64_t runs = k->last ? c->passes : c->passes - c->early_passes;
        if (k->last) {
            uint64_t window = r->window_tokens ? r->window_tokens : to;
            flop += (double)u64_min(to, window) * (double)c->early_passes;
        }
        flop *= 2.0 * r->q_heads / s->fold.slice.cp;
        t->flop[r->stream == STREAM_INDEX ? OP_INDEXER : OP_SCORES] +=
            flop * r->prefill_score_dim;
        if (r->stream != STREAM_INDEX)
            t->flop[OP_VALUES] += flop * r->prefill_value_dim;
        if (r->stream == STREAM_LATENT) /* what stands before the chunk is expanded again */
            t->flop[OP_QKV] += 2.0 * (double)runs * (double)from * r->q_heads *
                               (r->prefill_score_dim - r->rope_dim + r->prefill_value_dim) *
                               (r->k_dim - r->rope_dim) / s->fold.slice.cp;
        t->bytes[OP_SCORES] += (double)runs *
                               (double)row_bytes(&c->source, to, keys_seen(r, from, to), &ck) /
                               s->fold.slice.cp;
    }
    for (int op = 0; op < N_OPS; op++)
        t->flop[op] +=
            (double)k->tokens * s->work.prompt_flop[op] + (k->last ? s->work.last_flop[op] : 0);
    t->flop[OP_HEAD] += k->last ? s->work.token_flop[OP_HEAD] : 0;
    t->bytes[OP_ELEMENTWISE] +=
        (double)k->tokens * s->work.move_bytes[0] + (k->last ? s->work.move_bytes[1] : 0);
    t->bytes[OP_QKV] +=
        (double)k->tokens * (double)fold_token_bytes(&s->fold, false, &ck) / s->fold.slice.cp;
    t->bytes[OP_STATE] += 2.0 * (double)s->fold.state_bytes;
}

static void sum_weights(const struct stage *s, const struct mix *x, uint64_t tokens,
                        struct op_tally *t)
{
    const struct work *w = &s->work;

    for (int op = 0; op < N_OPS; op++)
        t->bytes[op] += (double)(x->n_chunks ? w->prefill_read_bytes[op] : w->read_bytes[op]);
    for (uint32_t i = 0; i < w->n_experts; i++)
        t->bytes[OP_EXPERTS] +=
            (double)(x->n_chunks ? w->experts[i].bytes_passes : w->experts[i].bytes) *
            work_expert_share(w->experts[i].experts, w->experts[i].top_k, tokens);
}

/* The schemes' own part: spread over the ranks. */
static void sum_schemes(const struct problem *p, const struct mix *x, uint64_t i,
                        struct op_tally *reads, struct op_tally *t)
{
    double share = 1.0 / p->parallel.tp / p->n_stages;

    for (uint64_t k = 0; k < x->decodes + x->n_chunks; k++) {
        const struct step_chunk *c = k < x->decodes ? NULL : &x->chunks[k - x->decodes];
        struct phase ph = {c ? c->prompt : x->prompt[k], c ? 0 : x->decoded[k] + i};
        struct extra_cost e;
        scheme_costs(p->uses, p->n_uses, &p->layout, &ph, &e);
        if (!c) {
            reads->flop[OP_SCHEME] += share * e.decode_flop;
            reads->bytes[OP_SCHEME] +=
                share * (double)(e.decode_read_bytes + e.decode_write_bytes);
        } else if (c->last) {
            t->flop[OP_SCHEME] += share * e.prefill_flop;
            t->bytes[OP_SCHEME] += share * 2.0 * (double)e.transient_prefill_bytes;
        }
    }
}

/* Step i of the series, from nothing but its sequences. */
static double step_s(const struct step_model *m, const struct mix *x, uint64_t i)
{
    const struct problem *p = m->problem;
    struct work none = {.layers = 0};
    double sum = 0, seconds[N_OPS], link = 0;
    struct ck ck = {0};

    for (uint32_t k = 0; k < p->n_stages; k++) {
        const struct stage *s = &p->stages[k];
        struct op_tally t = {{0}, {0}}, apart = {{0}, {0}};
        struct op_tally *reads =
            x->n_chunks ? &apart : &t; /* beside chunks: a part of its own */
        uint64_t tokens = x->decodes;
        for (uint64_t q = 0; q < x->decodes; q++) {
            work_decode(&none, &s->fold, x->prompt[q], x->decoded[q] + i, 1, reads);
            link += p->offload * (double)fold_decode_read_bytes(&s->fold, x->prompt[q],
                                                                x->decoded[q] + i, &ck);
        }
        for (int op = 0; op < N_OPS; op++)
            t.flop[op] += (double)x->decodes * s->work.token_flop[op];
        for (uint32_t c = 0; c < x->n_chunks; c++) {
            struct step_chunk chunk = x->chunks[c];
            chunk.offset += x->stride ? i * chunk.tokens : 0;
            tokens += chunk.tokens;
            sum_chunk(s, &chunk, &t);
            link += p->offload *
                    ((double)fold_resident_bytes(&s->fold, chunk.offset + chunk.tokens, 0,
                                                 p->block_tokens, &ck) -
                     (chunk.offset ? (double)fold_resident_bytes(&s->fold, chunk.offset, 0,
                                                                 p->block_tokens, &ck)
                                   : 0));
        }
        sum_weights(s, x, tokens, &t);
        sum_schemes(p, x, i, reads, &t);
        for (int op = 0; op < N_OPS && x->n_chunks; op++) {
            apart.flop[op] *= op == OP_SCORES || op == OP_VALUES ? m->curves[k].mixed_rows : 1;
            bool own = op == OP_SCORES || op == OP_VALUES || op == OP_DEQUANT ||
                       op == OP_INDEXER || op == OP_SCHEME;
            t.bytes[op] += own ? 0 : apart.bytes[op];
            apart.bytes[op] = own ? apart.bytes[op] : 0;
        }
        link +=
            (double)(x->n_chunks ? s->work.offloaded_prefill_bytes : s->work.offloaded_bytes);
        uint32_t messages =
            roofline_collectives(&p->model, p->parallel, s->work.layers, (double)tokens, &t);
        uint64_t sampled = x->decodes;
        for (uint32_t c = 0; c < x->n_chunks; c++)
            sampled += x->chunks[c].last;
        if (p->parallel.tp > 1 && k + 1 == p->n_stages) { /* the logits of every rank */
            t.bytes[OP_COLLECTIVE] +=
                (double)sampled * p->model.vocab * 2.0 * (p->parallel.tp - 1) / p->parallel.tp;
            messages += sampled > 0;
        }
        double runs = (double)(x->n_chunks ? s->work.layer_passes : s->work.layers);
        sum += roofline_seconds(&t, &p->machine, KERNELS_PER_LAYER * runs, messages, seconds);
        if (x->n_chunks)
            sum += roofline_seconds(&apart, &p->machine, 0, 0, seconds);
    }
    link *=
        (double)p->parallel.tp * p->parallel.cp * p->parallel.dp / p->machine.link_bytes_per_s;
    if ((p->offload > 0 || p->stages[0].work.offloaded_bytes) && link > sum)
        sum = link;
    return sum + m->overhead_s;
}

static uint64_t below(struct rng *r, uint64_t n)
{
    return rng_next(r) % n;
}

/* A batch at random; returns for how many steps it is one series. */
static uint64_t draw(struct rng *r, const struct step_model *m, struct mix *x,
                     struct step_batch *b)
{
    uint64_t steps = 3000;

    memset(x, 0, sizeof *x);
    memset(b, 0, sizeof *b);
    x->decodes = below(r, 3) ? 1 + below(r, DECODES) : 0;
    for (uint64_t i = 0; i < x->decodes; i++) {
        x->prompt[i] = 20 + below(r, 3000);
        x->decoded[i] = below(r, 2000);
        add_decode(m, x->prompt[i], x->decoded[i], &steps, b);
    }
    b->decodes = x->decodes;
    if (x->decodes && !below(r, 3))
        return steps;
    x->n_chunks = 1 + (uint32_t)below(r, 3);
    x->stride = !m->whole_prompts && x->n_chunks == 1 && below(r, 2);
    for (uint32_t i = 0; i < x->n_chunks; i++) {
        struct step_chunk *c = &x->chunks[i];
        c->tokens = 16 + below(r, 600);
        c->last = m->whole_prompts || (!x->stride && below(r, 2));
        c->offset = c->last && m->whole_prompts ? 0 : below(r, 3) * below(r, 1200);
        c->prompt = c->offset + c->tokens + (c->last ? 0 : 5000);
        b->chunks[i] = *c;
    }
    b->n_chunks = x->n_chunks;
    b->stride = x->stride;
    return x->stride ? u64_min(u64_min(steps, 8), step_chunk_steps(m, &x->chunks[0])) : steps;
}

/* S(i) - S(i - 1) is the roofline of step i - 1, S is never falling, and step_count inverts it.
 */
static uint64_t check_series(struct rng *r, const struct step_model *m, const struct mix *x,
                             const struct step_batch *b, uint64_t steps)
{
    struct step_line line;
    uint64_t bends;

    step_prepare(m, b, &line);
    bends = line.n_places > 1 && line.places[1].from < steps;
    assert_true(step_sum_s(&line, 0) == 0);
    for (int k = 0; k < 6; k++) {
        uint64_t i = k == 0 ? 1 : k == 1 ? steps : 1 + below(r, steps);
        if (k == 2 && bends)
            i = line.places[1].from;
        double here = step_sum_s(&line, i), before = step_sum_s(&line, i - 1);
        kt_rel(here - before, step_s(m, x, i - 1), 1e-9);
        kt_u64(step_count(&line, here, steps), i);
        kt_u64(step_count(&line, before + (here - before) / 3, steps), i);
        kt_u64(step_count(&line, here * 1.0001 + 1, i), i);
    }
    return bends;
}

/* A GPU on which reading the cache and its arithmetic take equally long at step i: where bytes
 * and FLOP do not grow alike the series turns there. */
static void meet_at(const struct step_model *m, const struct mix *x, uint64_t i,
                    struct machine *gpu)
{
    const struct stage *s = &m->problem->stages[0];
    struct work none = {.layers = 0};
    struct op_tally t = {{0}, {0}};

    for (uint64_t q = 0; q < x->decodes; q++)
        work_decode(&none, &s->fold, x->prompt[q], x->decoded[q] + i, 1, &t);
    if (!x->decodes) {
        struct step_chunk c = x->chunks[0];
        c.offset += i * c.tokens;
        sum_chunk(s, &c, &t);
    }
    if (t.bytes[OP_SCORES] > 0 && t.flop[OP_SCORES] > 0)
        gpu->attention_flop_per_s =
            gpu->cache_bytes_per_s * t.flop[OP_SCORES] / t.bytes[OP_SCORES];
}

static void mixed_batches(void **state)
{
    struct rng r = {kt_seed(1)};
    uint64_t bends = 0, strides = 0;

    (void)state;
    for (size_t i = 0; i < SPECS; i++) {
        struct kp *k = spec_of(i, "{prompt: 100, output: 10, batch: 4}");
        struct step_model *m = model_of(k);
        struct step_batch *b = ARENA_NEW(k->arena, struct step_batch, 1);
        struct machine *gpu = &k->problem.machine;
        double balance = gpu->attention_flop_per_s;
        m->overhead_s = 1e-4;
        for (int n = 0; n < 40; n++) {
            struct mix x;
            uint64_t steps = draw(&r, m, &x, b);
            gpu->attention_flop_per_s = balance * (double)(1 + below(&r, 400)) / 100;
            if (n % 2)
                meet_at(m, &x, steps / 2, gpu);
            strides += x.stride && steps > 1;
            bends += check_series(&r, m, &x, b, steps);
        }
        kp_free(k);
    }
    print_message("%llu series bend, %llu move a chunk on\n", (unsigned long long)bends,
                  (unsigned long long)strides);
    assert_true(bends > 3 && strides > 20);
}

/* Sums follow the batch as sequences come, move on and go. */
static void sums_of_a_batch(void **state)
{
    (void)state;
    struct kp *k = spec_of(6, "{prompt: 100, output: 10, batch: 4}");
    struct step_model *m = model_of(k);
    struct step_batch *b = ARENA_NEW(k->arena, struct step_batch, 2), *later = b + 1;
    uint32_t n_reads[] = {m->curves[0].n_reads};
    struct curve_piece p;
    uint64_t steps = CURVE_FOREVER;

    add_decode(m, 100, 3, &steps, b);
    add_decode(m, 2000, 30, &steps, b);
    step_batch_advance(b, 1, n_reads, 50);
    add_decode(m, 100, 53, &steps, later);
    add_decode(m, 2000, 80, &steps, later);
    assert_memory_equal(b, later, sizeof *b);
    curve_reads(&m->curves[0], 100, 53, &p);
    step_batch_add(b, 0, n_reads[0], &p, -1);
    curve_reads(&m->curves[0], 2000, 80, &p);
    step_batch_add(b, 0, n_reads[0], &p, -1);
    b->decodes = 0;
    memset(later, 0, sizeof *later);
    assert_memory_equal(b, later, sizeof *b);
    kp_free(k);
}

/* Chunks of 512 of a plain model move on to the end; so they do with windows of 1024 (Gemma 3)
 * once the windows are full. */
static void equal_chunks(void **state)
{
    (void)state;
    struct kp *k = spec_of(1, "{prompt: 100, output: 10, batch: 4}");
    struct step_chunk c = {100000, 0, 512, false};

    kt_u64(step_chunk_steps(model_of(k), &c), 196);
    kp_free(k);
    k = spec_of(6, "{prompt: 100, output: 10, batch: 4}");
    kt_u64(step_chunk_steps(model_of(k), &c), 2);
    c.offset = 512;
    kt_u64(step_chunk_steps(model_of(k), &c), 2);
    c.offset = 1024;
    kt_u64(step_chunk_steps(model_of(k), &c), 194);
    kp_free(k);
    k = spec_of(21, "{prompt: 100, output: 10, batch: 4}");
    kt_u64(step_chunk_steps(model_of(k), &c), 1);
    kp_free(k);
}

/* --- what cannot be built ------------------------------------------------------------------
 */

static void refused(void **state)
{
    struct step_options opt = {-1, NULL};
    struct step_model m;

    (void)state;
    struct kp *k = kp_build("model: meta-llama-3.1-8b\nhardware: {memory: 80GiB}\n");
    assert_false(step_build(k->arena, &k->problem, &opt, k->diag, &m));
    kp_says(k,
            "the speed of the GPU is not known, so its steps have no time: give bandwidth and "
            "a peak rate in hardware.gpu, or measured steps");
    opt.table_path = "tests/no-such-file.csv";
    assert_false(step_build(k->arena, &k->problem, &opt, k->diag, &m));
    kt_u64((uint64_t)diag_exit(k->diag), 3);
    kp_free(k);
    opt.table_path = NULL;
    k = kp_build("model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb, count: 17}\n"
                 "parallel: {pp: 17}\n");
    assert_false(step_build(k->arena, &k->problem, &opt, k->diag, &m));
    kp_says(k, "17 pipeline stages: the simulator takes at most 16");
    kp_free(k);
}

/* What an engine adds to a step, by version; a table has it already; what is given wins. */
static void overheads(void **state)
{
    static const struct {
        const char *engine;
        double seconds, given;
        const char *why;
    } cases[] = {
        {"ideal", 0, -1, "by definition"},
        {"vllm, version: 0.19.0", 0, -1, "asynchronous scheduling"},
        {"vllm, version: 0.13.0", 0.54e-3, -1, "unverified"},
        {"vllm, version: 0.6.4", 5e-3, -1, "unverified: 5 to 13 ms"},
        {"sglang", 0, -1, "overlap scheduler"},
        {"trtllm", 0, -1, "overlap scheduler"},
        {"llamacpp", 0, -1, "none is known of this engine (unverified)"},
        {"vllm", 0.25, 0.25, "given"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *a = arena_new();
        struct step_options opt = {cases[i].given, NULL};
        struct step_model m;
        struct kp *k = kp_build(arena_printf(
            a, "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\nengine: {name: %s}\n",
            cases[i].engine));
        assert_true(step_build(k->arena, &k->problem, &opt, k->diag, &m));
        kt_rel(m.overhead_s + 1, cases[i].seconds + 1, 1e-12);
        assert_non_null(strstr(m.overhead_why, cases[i].why));
        kp_free(k);
        arena_free(a);
    }
}

/* Prompts are run whole where a rule prunes them in their pass or layers iterate over them. */
static void whole_prompts(void **state)
{
    static const struct {
        const char *cache;
        bool whole;
    } cases[] = {{"", false},
                 {"cache: {eviction: {scheme: snapkv, capacity: 512}}\n", true},
                 {"cache: {eviction: {scheme: streamingllm}}\n", false},
                 {"cache: {eviction: {scheme: l2norm}}\n", false},
                 {"cache: {sharing: lckv}\n", true},
                 {"cache: {sharing: cla}\n", false}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *a = arena_new();
        struct kp *k = kp_build(arena_printf(
            a, "model: meta-llama-3.1-8b\nhardware: {gpu: h100-sxm-80gb}\n%s", cases[i].cache));
        assert_true(model_of(k)->whole_prompts == cases[i].whole);
        kp_free(k);
        arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_alone), cmocka_unit_test(prompts_alone),
        cmocka_unit_test(mixed_batches), cmocka_unit_test(sums_of_a_batch),
        cmocka_unit_test(equal_chunks),  cmocka_unit_test(refused),
        cmocka_unit_test(overheads),     cmocka_unit_test(whole_prompts),
    };
    return cmocka_run_group_tests_name("sim_step", tests, NULL, NULL);
}
