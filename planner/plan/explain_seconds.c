/* Explanations of seconds: what one rank of each pipeline stage needs, one stage after the
 * other. */
#include "planner/plan/explain_fill.h"

/* The type whose peak, at the share that kernels reach, is this rate; GPU_DTYPES: none. */
static int dtype_of(const struct gpu *g, double rate)
{
    for (int t = GPU_DTYPES - 1; t >= 0; t--) {
        double mine = g->peak_flop_per_s[t] * gpu_gemm_ratio(g, (enum gpu_dtype)t);
        if (mine > 0 && mine >= rate && mine <= rate)
            return t;
    }
    return GPU_DTYPES;
}

/* The same of the rate that an op computes at; attention goes by the bf16 peak. */
static int dtype_used(const struct explain *e, bool attention)
{
    const struct gpu *g = &e->p->gpu;
    enum gpu_dtype used;

    if (!attention)
        return dtype_of(g, e->p->machine.gemm_flop_per_s);
    return gpu_peak_flop_per_s(g, GPU_BF16, &used) > 0 ? (int)used : GPU_DTYPES;
}

static double flop_rate(const struct explain *e, bool attention)
{
    return attention ? e->p->machine.attention_flop_per_s : e->p->machine.gemm_flop_per_s;
}

static void from_rates(struct explain *e, bool attention)
{
    int t = dtype_used(e, attention);

    explain_from_gpu(e, GPU_FACT_BANDWIDTH);
    explain_from_gpu(e, attention ? GPU_FACT_DECODE_BANDWIDTH : GPU_FACT_WEIGHT_BANDWIDTH);
    if (t == GPU_DTYPES)
        return;
    explain_from_gpu(e, (enum gpu_fact)(GPU_FACT_PEAK + t));
    explain_from_gpu(e, attention ? GPU_FACT_ATTENTION : gpu_gemm_fact((enum gpu_dtype)t));
}

/* "(3,350,000,000,000 x 0.867)": the peak and the share of it that kernels reach. */
static const char *bandwidth_text(struct explain *e, bool attention)
{
    const struct gpu *g = &e->p->gpu;
    double share = attention ? g->decode_bandwidth_ratio : g->weight_bandwidth_ratio;

    return arena_printf(e->a, "(%s x %s)", explain_real(e, g->bandwidth_bytes_per_s),
                        explain_real(e, share));
}

static const char *arithmetic_text(struct explain *e, bool attention)
{
    const struct gpu *g = &e->p->gpu;
    double rate = flop_rate(e, attention);
    int t = dtype_used(e, attention);

    if (t == GPU_DTYPES)
        return explain_real(e, rate);
    return arena_printf(
        e->a, "(%s x %s)", explain_real(e, g->peak_flop_per_s[t]),
        explain_real(e, attention ? g->attention_ratio : gpu_gemm_ratio(g, (enum gpu_dtype)t)));
}

/* What one rank of a stage does in a pass, as the plan times it. */
static struct op_tally rank_tally(const struct explain *e, const struct stage *s,
                                  uint32_t *messages)
{
    const struct problem *p = e->p;
    struct extra_cost cost = explain_extra(e, e->plan->decode_decoded);
    uint64_t replica = ck_ceil_div(e->plan->batch, p->parallel.dp);
    double share = 1.0 / (p->parallel.tp * (double)p->n_stages * p->parallel.dp),
           b = (double)e->plan->batch;
    struct op_tally t = {{0}, {0}};

    if (e->prefill) {
        t.flop[OP_SCHEME] = cost.prefill_flop * b * share;
        t.bytes[OP_SCHEME] = 2.0 * (double)cost.transient_prefill_bytes * b * share;
        work_prefill(&s->work, &s->fold, p->workload.prompt, replica,
                     explain_sequential_below(p), &t);
    } else {
        t.flop[OP_SCHEME] = cost.decode_flop * b * share;
        t.bytes[OP_SCHEME] =
            (double)(cost.decode_read_bytes + cost.decode_write_bytes) * b * share;
        work_decode(&s->work, &s->fold, e->plan->decode_prompt, e->plan->decode_decoded,
                    replica, &t);
    }
    *messages =
        roofline_collectives(&p->model, p->parallel, s->work.layers,
                             (double)(e->prefill ? p->workload.prompt * replica : replica), &t);
    *messages += roofline_logits(&s->work, &p->model, p->parallel, (double)replica, &t);
    return t;
}

static void put_launches(struct explain *e, const struct stage *s)
{
    uint64_t runs = s->work.layers;

    if (e->prefill && explain_is_sequential(e))
        runs *= e->p->workload.prompt;
    else if (e->prefill)
        runs = s->work.layer_passes;
    e->formula = "kernels x time to launch one";
    explain_term(e, "%u x %s x %s [kernels a layer x runs of layers x seconds]",
                 KERNELS_PER_LAYER, explain_count(e, runs),
                 explain_real(e, e->p->machine.kernel_launch_s));
    explain_from_gpu(e, GPU_FACT_KERNEL_LAUNCH);
    explain_source(
        e,
        "kernels a layer: counted, without fusion (norms, QKV, RoPE with append, attention, output, "
        "MLP)");
}

static void put_messages(struct explain *e, const struct op_tally *t, uint32_t messages)
{
    const struct machine *m = &e->p->machine;

    e->formula = "bytes between GPUs / rate of their link + messages x latency";
    if (m->peer_bytes_per_s <= 0) {
        explain_term(e, "0");
        return;
    }
    explain_term(e, "%s / %s + %u x %s", explain_real(e, t->bytes[OP_COLLECTIVE]),
                 explain_real(e, m->peer_bytes_per_s), messages,
                 explain_real(e, m->peer_latency_s));
    if (e->p->spec->hardware.peer_link > 0) {
        explain_from_spec(e, "hardware.peer_link");
    } else {
        explain_from_spec(e, "hardware.link, where given");
        explain_from_gpu(e, GPU_FACT_NVLINK);
        explain_from_gpu(e, GPU_FACT_PEER_BANDWIDTH);
    }
    explain_from_gpu(e, GPU_FACT_PEER_LATENCY);
}

/* The longer of the two sides (planner/cost/roofline.h). */
static void put_sides(struct explain *e, const struct op_tally *t, bool cache)
{
    const char *bytes = explain_real(e, t->bytes[e->op]);
    const char *flop = explain_real(e, t->flop[e->op]);
    const char *bandwidth = bandwidth_text(e, cache), *peak = arithmetic_text(e, cache);

    if (cache || t->flop[e->op] <= 0)
        explain_term(
            e, "max(%s / %s, %s / %s) [bytes / (bandwidth x share), FLOP / (peak x share)]",
            bytes, bandwidth, flop, peak);
    else
        explain_term(
            e,
            "max(%s / %s + %s / %s / 3, %s / %s) [bytes / (bandwidth x share) + a third "
            "of the arithmetic, FLOP / (peak x share)]",
            bytes, bandwidth, flop, peak, flop, peak);
}

static void op_seconds(struct explain *e)
{
    const struct problem *p = e->p;
    bool cache = e->op == OP_SCORES || e->op == OP_VALUES || e->op == OP_INDEXER ||
                 e->op == OP_SCHEME || e->op == OP_DEQUANT;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        uint32_t messages;
        struct op_tally t = rank_tally(e, &p->stages[i], &messages);
        if (e->op == OP_LAUNCH)
            put_launches(e, &p->stages[i]);
        else if (e->op == OP_COLLECTIVE)
            put_messages(e, &t, messages);
        else
            put_sides(e, &t, cache);
    }
    if (e->op == OP_LAUNCH || e->op == OP_COLLECTIVE)
        return;
    from_rates(e, cache);
    if (!cache)
        explain_source(e,
                       "a third of the arithmetic is not hidden behind the bytes: timings of "
                       "products of 20 to 256 rows (tests/data/kernels.csv)");
}

/* Sum over ops; where something crosses the host link, the longer of the two. */
static void put_seconds(struct explain *e, const double by_op[N_OPS], double link_s)
{
    const char *sum = explain_sum(e, by_op, true);

    if (link_s > 0)
        explain_put(e, "max(%s, %s [host link])", sum, explain_real(e, link_s));
    else
        explain_put(e, "%s", sum);
    from_rates(e, false);
    from_rates(e, true);
    explain_from_gpu(e, GPU_FACT_KERNEL_LAUNCH);
}

static void prefill_seconds(struct explain *e)
{
    put_seconds(e, e->plan->prefill_op_s, e->plan->prefill_link_s);
}

static void prefill_each(struct explain *e)
{
    explain_put(e, "%s [seconds] / %s [sequences]", explain_real(e, e->plan->prefill_s),
                explain_count(e, e->plan->batch));
}

static void decode_seconds(struct explain *e)
{
    put_seconds(e, e->plan->decode_op_s, e->plan->decode_link_s);
}

static void tokens_per_second(struct explain *e)
{
    explain_put(e, "%s [sequences] / %s [seconds a step]", explain_count(e, e->plan->batch),
                explain_real(e, e->plan->decode_s));
}

/* Bytes that cross one host link of each stage: "layers + share x cache x sequences". */
static const char *link_of(struct explain *e)
{
    const struct problem *p = e->p;
    uint64_t replica = ck_ceil_div(e->plan->batch, p->parallel.dp), n = p->workload.prompt;
    const char *s = "";

    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct stage *g = &p->stages[i];
        uint64_t layers =
            e->prefill ? g->work.offloaded_prefill_bytes : g->work.offloaded_bytes;
        uint64_t cache =
            e->prefill ? fold_resident_bytes(&g->fold, n, 0, p->block_tokens, &e->ck)
                       : fold_decode_read_bytes(&g->fold, n, e->plan->decode_decoded, &e->ck);
        s = arena_printf(
            e->a, "%s%s%s [offloaded layers%s] + %s x %s x %s [share x cache %s x sequences]",
            s, *s ? " + " : "", explain_count(e, layers), e->prefill ? ", passes counted" : "",
            explain_real(e, p->offload), explain_count(e, cache), explain_count(e, replica),
            e->prefill ? "left" : "read");
    }
    return s;
}

static void link_bytes(struct explain *e)
{
    explain_put(e, "(%s) x %u [ranks]", link_of(e),
                e->p->parallel.tp * e->p->parallel.cp * e->p->parallel.dp);
    explain_from_spec(e, "cache.offload, weights.offload_layers");
}

static void link_seconds(struct explain *e)
{
    explain_put(e, "(%s) / %s [bytes a second]", link_of(e),
                explain_real(e, e->p->machine.link_bytes_per_s));
    explain_from_spec(e, "hardware.link, where given");
    explain_from_gpu(e, GPU_FACT_LINK);
    explain_from_gpu(e, GPU_FACT_LINK_SHARE);
}

/* --- the table ---------------------------------------------------------------------------- */

static const char seconds_rule[] =
    "the longer of bytes by bandwidth (and, in products, the third of the arithmetic that "
    "they do not hide) and FLOP by peak, each at the share that kernels reach; over the stages";

const struct explain_rule explain_seconds_rules[] = {
    {"compute.prefill.seconds", "s",
     "sum over ops; copies over the host link overlap, the longer decides", prefill_seconds},
    {"compute.prefill.link_bytes", "bytes", "what crosses the host links in a prefill",
     link_bytes},
    {"compute.prefill.link_seconds", "s", "what crosses one link of each stage, by its rate",
     link_seconds},
    {"compute.prefill.seconds_per_sequence", "s", "prefill by sequences", prefill_each},
    {"compute.prefill.by_op.*.seconds", "s", seconds_rule, op_seconds},
    {"compute.decode.seconds", "s",
     "sum over ops; copies over the host link overlap, the longer decides", decode_seconds},
    {"compute.decode.tokens_per_second", "1/s", "a token a sequence and step",
     tokens_per_second},
    {"compute.decode.link_bytes", "bytes", "what crosses the host links in a step", link_bytes},
    {"compute.decode.link_seconds", "s", "what crosses one link of each stage, by its rate",
     link_seconds},
    {"compute.decode.by_op.*.seconds", "s", seconds_rule, op_seconds},
    {NULL, NULL, NULL, NULL},
};
