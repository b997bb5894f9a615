/* Exact capacity. Needs are affine in the batch, so the largest batch is a division; contexts
 * are found by a linear guess that is checked, and by bisection where a rule bends the line. */
#include "planner/plan/capacity.h"

#include <string.h>

#include "planner/plan/reserve.h"

static const char *const limit_names[] = {
    "memory",      "prefill_peak", "block_rounding", "max_seqs",
    "host_memory", "weights",      "max_model_len",  "none",
};

const char *limit_name(enum limit l)
{
    return limit_names[l];
}

/* --- what sequences need -------------------------------------------------------------------
 */

void capacity_extra(const struct problem *p, const struct stage *s, const struct phase *ph,
                    uint64_t *persistent, uint64_t *transient)
{
    struct extra_cost e;
    uint32_t layers = s->fold.slice.last - s->fold.slice.first;
    struct ck ck = {0};

    scheme_costs(p->uses, p->n_uses, &p->layout, ph, &e);
    *persistent = ck_ceil_div(ck_muldiv(&ck, e.persistent_bytes, layers, p->model.n_layers),
                              p->parallel.tp);
    *transient = ck_ceil_div(e.transient_prefill_bytes, p->parallel.tp);
}

static uint64_t kept_on_gpu(uint64_t bytes, double offload)
{
    if (offload <= 0)
        return bytes;
    double on = (double)bytes * (1 - offload);
    uint64_t whole = (uint64_t)on;
    return whole + ((double)whole < on);
}

/* Whether the stage hands out whole blocks of a paged pool; `exact` plans set block_tokens
 * to 1. */
static bool is_paged(const struct problem *p, const struct stage *s)
{
    return s->pool.block_bytes && p->block_tokens > 1;
}

/* What the rows take, schemes' own tables apart. */
static void row_need(const struct problem *p, const struct stage *s, const struct workload *w,
                     struct need *out, struct ck *ck)
{
    const struct fold *f = &s->fold;
    const struct pool *pool = &s->pool;

    if (is_paged(p, s)) {
        out->sequence_bytes =
            ck_mul(ck, pool_highest_blocks(pool, w->prompt, w->output), pool->block_bytes);
        out->prefill_bytes =
            ck_mul(ck, pool_prefill_blocks(pool, w->prompt), pool->block_bytes);
        out->shared_bytes =
            ck_mul(ck, pool_shared_blocks(pool, w->shared_prefix), pool->block_bytes);
        return;
    }
    out->sequence_bytes = fold_highest_bytes(f, w->prompt, w->output, p->block_tokens, ck);
    out->prefill_bytes = fold_prefill_peak_bytes(f, w->prompt, p->block_tokens, ck);
    out->shared_bytes =
        w->shared_prefix ? fold_shared_bytes(f, w->shared_prefix, p->block_tokens, ck) : 0;
    if (p->engine->need) {
        struct engine_in in = problem_engine_in(p, (uint32_t)(s - p->stages));
        struct engine_need n = {out->sequence_bytes, out->prefill_bytes};
        p->engine->need(&in, w->prompt, w->output, &n, ck);
        out->sequence_bytes = n.sequence_bytes;
        out->prefill_bytes = n.prefill_bytes;
        out->shared_bytes = 0; /* sequences of such engines share nothing */
    }
}

void capacity_need(const struct problem *p, const struct stage *s, const struct workload *w,
                   struct need *out, struct ck *ck)
{
    uint64_t persistent = 0, transient = 0, high, prefill, shared;
    struct need rows;

    row_need(p, s, w, &rows, ck);
    high = rows.sequence_bytes;
    prefill = rows.prefill_bytes;
    shared = rows.shared_bytes;
    if (p->n_uses)
        capacity_extra(p, s, &(struct phase){w->prompt, w->output}, &persistent, &transient);
    high = ck_add(ck, high, persistent);
    prefill = ck_add(ck, prefill, ck_add(ck, persistent, transient));
    high -= u64_min(high, shared);
    prefill -= u64_min(prefill, shared);
    *out = (struct need){high, shared, prefill, 0};
    if (p->offload > 0) {
        out->sequence_bytes = kept_on_gpu(high, p->offload);
        out->shared_bytes = kept_on_gpu(shared, p->offload);
        out->prefill_bytes = kept_on_gpu(prefill, p->offload);
        out->host_bytes =
            ck_prod(ck, high - out->sequence_bytes, p->parallel.tp, p->parallel.cp);
    }
}

uint64_t need_bytes(const struct need *n, uint64_t batch, struct ck *ck)
{
    uint64_t last = u64_max(n->sequence_bytes, n->prefill_bytes);

    if (!batch)
        return 0;
    return ck_add(ck, ck_add(ck, n->shared_bytes, last),
                  ck_mul(ck, batch - 1, n->sequence_bytes));
}

/* Sequences of this need that a pool holds. */
static uint64_t pool_batch(const struct need *n, uint64_t pool)
{
    struct ck ck = {0};
    uint64_t first = need_bytes(n, 1, &ck);

    if (ck.over || first > pool)
        return 0;
    return n->sequence_bytes ? u64_min((pool - first) / n->sequence_bytes + 1, CAPACITY_MAX)
                             : CAPACITY_MAX;
}

uint64_t capacity_host_room(const struct problem *p)
{
    uint64_t used = 0;
    struct ck ck = {0};

    for (uint32_t i = 0; i < p->n_stages; i++)
        used = ck_add(
            &ck, used,
            ck_prod(&ck, p->stages[i].work.offloaded_bytes, p->parallel.tp, p->parallel.dp));
    return ck.over || used > p->host_bytes ? 0 : p->host_bytes - used;
}

/* Sequences the host holds, over all replicas. */
static uint64_t host_batch(const struct problem *p, uint64_t host_bytes_per_sequence)
{
    if (!p->host_bytes || !host_bytes_per_sequence)
        return CAPACITY_MAX;
    return u64_min(capacity_host_room(p) / host_bytes_per_sequence, CAPACITY_MAX);
}

/* Per replica: the smallest over stages, the stage, and the need there. `host` is the sum over
 * stages. */
static uint64_t replica_batch(const struct problem *p, const struct workload *w,
                              uint32_t *tightest, struct need *need, uint64_t *host,
                              struct ck *ck)
{
    uint64_t most = CAPACITY_MAX;

    *host = 0;
    *tightest = 0;
    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct need n;
        capacity_need(p, &p->stages[i], w, &n, ck);
        uint64_t b = p->stages[i].budget.short_bytes
                         ? 0
                         : pool_batch(&n, p->stages[i].budget.kv_pool_bytes);
        *host = ck_add(ck, *host, n.host_bytes);
        if (!i || b < most ||
            (b == most &&
             p->stages[i].budget.kv_pool_bytes < p->stages[*tightest].budget.kv_pool_bytes)) {
            most = b;
            *tightest = i;
            *need = n;
        }
    }
    return ck->over ? 0 : most;
}

static bool too_long(const struct problem *p, const struct workload *w)
{
    uint64_t cap = p->settings.max_model_len;
    return cap && w->prompt + w->output > cap;
}

bool capacity_fits(const struct problem *p, const struct workload *w, uint64_t batch)
{
    uint32_t tightest;
    struct need n = {0};
    uint64_t host;
    struct ck ck = {0};
    if (p->engine->reserve)
        return reserve_fits(p, w, batch);
    uint64_t most = replica_batch(p, w, &tightest, &n, &host, &ck);

    if (p->settings.max_seqs)
        most = u64_min(most, p->settings.max_seqs);
    return !too_long(p, w) && batch <= u64_min(most * p->parallel.dp, host_batch(p, host));
}

/* Why one more than `most` does not fit the tightest stage. */
static enum limit memory_limit(const struct problem *p, const struct workload *w, uint64_t most,
                               const struct need *n)
{
    struct problem exact;
    uint32_t stage;
    struct need other;
    uint64_t host;
    struct ck ck = {0};

    for (uint32_t i = 0; i < p->n_stages; i++)
        if (p->stages[i].budget.short_bytes || !p->stages[i].budget.kv_pool_bytes)
            return LIMIT_WEIGHTS;
    if (p->block_tokens > 1) {
        exact = *p;
        exact.block_tokens = 1;
        if (replica_batch(&exact, w, &stage, &other, &host, &ck) > most)
            return LIMIT_BLOCK_ROUNDING;
    }
    return n->prefill_bytes > n->sequence_bytes && !most ? LIMIT_PREFILL_PEAK : LIMIT_MEMORY;
}

static uint64_t solve_batch(const struct problem *p, const struct workload *w, enum limit *why,
                            uint32_t *tightest, struct need *need)
{
    struct ck ck = {0};
    uint64_t host, total, most;

    *need = (struct need){0};
    if (p->engine->reserve)
        return reserve_max_batch(p, w, why, tightest);
    most = replica_batch(p, w, tightest, need, &host, &ck);
    if (too_long(p, w)) {
        *why = LIMIT_MODEL_LEN;
        return 0;
    }
    *why = LIMIT_MEMORY;
    if (p->settings.max_seqs && most >= p->settings.max_seqs) {
        *why = LIMIT_MAX_SEQS;
        most = p->settings.max_seqs;
    } else if (most < CAPACITY_MAX) {
        *why = memory_limit(p, w, most, need);
    } else {
        *why = LIMIT_NONE;
    }
    total = most * p->parallel.dp;
    if (host_batch(p, host) < total) {
        *why = LIMIT_HOST_MEMORY;
        total = host_batch(p, host);
    }
    return total;
}

uint64_t capacity_max_batch(const struct problem *p, const struct workload *w, enum limit *why)
{
    uint32_t tightest;
    struct need need;

    return solve_batch(p, w, why, &tightest, &need);
}

/* --- the longest context -------------------------------------------------------------------
 */

static struct workload of_context(const struct workload *w, uint64_t context)
{
    struct workload out = *w;

    out.output = u64_min(w->output, context - 1);
    out.prompt = context - out.output;
    out.shared_prefix = u64_min(w->shared_prefix, out.prompt);
    return out;
}

static bool context_fits(const struct problem *p, const struct workload *w, uint64_t context,
                         uint64_t batch)
{
    struct workload at = of_context(w, context);
    return capacity_fits(p, &at, batch);
}

/* A guess on a straight line through two far points of what the tightest stage needs. */
static uint64_t guess_context(const struct problem *p, const struct workload *w, uint64_t batch)
{
    uint64_t replica = ck_ceil_div(batch, p->parallel.dp), best = CONTEXT_MAX;
    const uint64_t x0 = (uint64_t)1 << 20, x1 = (uint64_t)1 << 21;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        struct workload a = of_context(w, x0), b = of_context(w, x1);
        struct need n0, n1;
        struct ck ck = {0};
        capacity_need(p, &p->stages[i], &a, &n0, &ck);
        capacity_need(p, &p->stages[i], &b, &n1, &ck);
        double y0 = (double)need_bytes(&n0, replica, &ck),
               y1 = (double)need_bytes(&n1, replica, &ck);
        double pool = (double)p->stages[i].budget.kv_pool_bytes;
        double x = y1 > y0 ? (double)x0 + (pool - y0) * (double)(x1 - x0) / (y1 - y0)
                           : (double)CONTEXT_MAX;
        if (x < (double)best)
            best = x < 1 ? 1 : (uint64_t)x;
    }
    return best;
}

/* From a guess, widens until lo fits and hi does not, then bisects. */
static uint64_t search_context(const struct problem *p, const struct workload *w,
                               uint64_t batch, uint64_t guess)
{
    uint64_t lo = 0, hi = CONTEXT_MAX + 1, step = 1, at = guess;

    if (context_fits(p, w, at, batch)) {
        for (lo = at; lo < CONTEXT_MAX; lo = at, step *= 2) {
            at = u64_min(lo + step, CONTEXT_MAX);
            if (!context_fits(p, w, at, batch)) {
                hi = at;
                break;
            }
        }
    } else {
        for (hi = at; hi > 1; hi = at, step *= 2) {
            at = hi > step ? hi - step : 1;
            if (context_fits(p, w, at, batch)) {
                lo = at;
                break;
            }
        }
        if (hi == 1)
            return 0;
    }
    while (hi - lo > 1) {
        uint64_t mid = lo + (hi - lo) / 2;
        if (context_fits(p, w, mid, batch))
            lo = mid;
        else
            hi = mid;
    }
    return u64_min(lo, CONTEXT_MAX);
}

/* The same where the engine reserves slots: the bytes are no line in the context. */
static uint64_t reserved_context(const struct problem *p, const struct workload *w,
                                 uint64_t batch, enum limit *why)
{
    const uint64_t guess = (uint64_t)1 << 16;
    uint64_t most = search_context(p, w, batch, guess);
    struct workload more = of_context(w, most + 1);

    *why = most < CONTEXT_MAX ? reserve_limit(p, &more, batch) : LIMIT_NONE;
    return most;
}

uint64_t capacity_max_context(const struct problem *p, const struct workload *w, uint64_t batch,
                              enum limit *why)
{
    uint64_t most;

    if (p->engine->reserve)
        return reserved_context(p, w, batch, why);
    *why = LIMIT_MEMORY;
    for (uint32_t i = 0; i < p->n_stages; i++) {
        if (p->stages[i].budget.short_bytes || !p->stages[i].budget.kv_pool_bytes) {
            *why = LIMIT_WEIGHTS;
            return 0;
        }
    }
    most = search_context(p, w, batch, guess_context(p, w, batch));
    if (p->settings.max_model_len && most >= p->settings.max_model_len)
        *why = LIMIT_MODEL_LEN;
    else if (most >= CONTEXT_MAX)
        *why = LIMIT_NONE;
    return most;
}

uint32_t capacity_min_gpus(const struct problem *p, const struct workload *w, uint64_t batch)
{
    uint32_t heads = 1, found = 0;

    for (uint32_t i = 0; i < p->layout.n_rows; i++)
        heads = (uint32_t)u64_max(heads, p->layout.rows[i].q_heads);
    bool stages = p->engine->layer_split;
    uint32_t most = stages ? p->model.n_layers : heads;

    for (uint32_t n = 1; n <= most && !found; n++) {
        struct parallel par = {stages ? 1 : n, stages ? n : 1, 1, 1, 1};
        struct arena *scratch;
        struct problem other;
        if (!stages && heads % n)
            continue;
        scratch = arena_new();
        if (problem_with(scratch, p, NULL, par, diag_new(scratch), &other) &&
            capacity_fits(&other, w, batch))
            found = n;
        arena_free(scratch);
    }
    return found;
}

/* --- the whole plan ------------------------------------------------------------------------
 */

static void add_scheme_cost(const struct problem *p, const struct workload *w, uint64_t batch,
                            uint64_t decoded, struct op_tally *prefill, struct op_tally *decode)
{
    struct phase ph = {w->prompt, decoded};
    struct extra_cost e;

    scheme_costs(p->uses, p->n_uses, &p->layout, &ph, &e);
    prefill->flop[OP_SCHEME] += e.prefill_flop * (double)batch;
    prefill->bytes[OP_SCHEME] += 2.0 * (double)e.transient_prefill_bytes * (double)batch;
    decode->flop[OP_SCHEME] += e.decode_flop * (double)batch;
    decode->bytes[OP_SCHEME] +=
        (double)(e.decode_read_bytes + e.decode_write_bytes) * (double)batch;
}

/* A tally divided over the ranks of a stage that share its work evenly. */
static struct op_tally scaled(const struct op_tally *t, double by)
{
    struct op_tally out = *t;

    for (int op = 0; op < N_OPS; op++) {
        out.flop[op] *= by;
        out.bytes[op] *= by;
    }
    return out;
}

static void add_seconds(double *into, const double *seconds)
{
    for (int op = 0; op < N_OPS; op++)
        into[op] += seconds[op];
}

/* One pass of the pipeline: the stages follow each other. */
static void time_plan(const struct problem *p, const struct workload *w, struct plan *out,
                      const struct op_tally extra[2])
{
    uint64_t replica = ck_ceil_div(out->batch, p->parallel.dp);
    uint64_t sequential = p->layout.sequential_prefill
                              ? UINT64_MAX
                              : (uint64_t)p->layout.forward_passes + p->layout.backward_passes;
    double share = 1.0 / (p->parallel.tp * (double)p->n_stages * p->parallel.dp);
    bool steps = w->prompt <= sequential && p->whole_work.upward;

    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct stage *s = &p->stages[i];
        struct op_tally pre = scaled(&extra[0], share), dec = scaled(&extra[1], share);
        double seconds[N_OPS];
        work_prefill(&s->work, &s->fold, w->prompt, replica, sequential, &pre);
        work_decode(&s->work, &s->fold, out->decode_prompt, out->decode_decoded, replica, &dec);
        uint32_t m = roofline_collectives(&p->model, p->parallel, s->work.layers,
                                          (double)(w->prompt * replica), &pre);
        m += roofline_logits(&s->work, &p->model, p->parallel, (double)replica, &pre);
        if (w->prompt) {
            double runs = steps ? (double)s->work.layers * (double)w->prompt
                                : (double)s->work.layer_passes;
            out->prefill_s +=
                roofline_seconds(&pre, &p->machine, KERNELS_PER_LAYER * runs, m, seconds);
            add_seconds(out->prefill_op_s, seconds);
        }
        m = roofline_collectives(&p->model, p->parallel, s->work.layers, (double)replica, &dec);
        m += roofline_logits(&s->work, &p->model, p->parallel, (double)replica, &dec);
        out->decode_s +=
            roofline_seconds(&dec, &p->machine, KERNELS_PER_LAYER * s->work.layers, m, seconds);
        add_seconds(out->decode_op_s, seconds);
    }
}

/* What crosses the host link. A decode step: the offloaded layers once, the offloaded share of
 * the cache it reads. A prefill: the layers once a pass, the share of the cache it leaves.
 * Copies overlap with compute; the longer decides. */
static void time_link(const struct problem *p, const struct workload *w, struct plan *out)
{
    double decode = 0, prefill = 0, batch = (double)ck_ceil_div(out->batch, p->parallel.dp);
    double ranks = (double)p->parallel.tp * p->parallel.cp, rate = p->machine.link_bytes_per_s;
    struct ck ck = {0};

    for (uint32_t i = 0; i < p->n_stages; i++) {
        const struct stage *s = &p->stages[i];
        double read = (double)fold_decode_read_bytes(&s->fold, out->decode_prompt,
                                                     out->decode_decoded, &ck);
        double left = (double)fold_resident_bytes(&s->fold, w->prompt, 0, p->block_tokens, &ck);
        decode += (double)s->work.offloaded_bytes + p->offload * read * batch;
        prefill += (double)s->work.offloaded_prefill_bytes + p->offload * left * batch;
    }
    out->decode_link_bytes = decode * ranks * p->parallel.dp;
    out->prefill_link_bytes = prefill * ranks * p->parallel.dp;
    if (rate > 0) {
        out->decode_link_s = decode / rate;
        out->prefill_link_s = prefill / rate;
    }
}

static void cost_plan(const struct problem *p, const struct workload *w, struct plan *out)
{
    struct op_tally extra[2] = {{{0}, {0}}, {{0}, {0}}};
    uint64_t sequential = p->layout.sequential_prefill
                              ? UINT64_MAX
                              : (uint64_t)p->layout.forward_passes + p->layout.backward_passes;
    struct ck ck = {0};

    out->decode_prompt = w->prompt;
    out->decode_decoded = w->output / 2; /* the mean context of the decode */
    if (p->n_uses)
        add_scheme_cost(p, w, out->batch, out->decode_decoded, &extra[0], &extra[1]);
    out->prefill = extra[0];
    out->decode = extra[1];
    work_prefill(&p->whole_work, &p->whole, w->prompt, out->batch, sequential, &out->prefill);
    work_decode(&p->whole_work, &p->whole, out->decode_prompt, out->decode_decoded, out->batch,
                &out->decode);
    out->decode_read_bytes =
        ck_mul(&ck, out->batch,
               fold_decode_read_bytes(&p->whole, out->decode_prompt, out->decode_decoded, &ck));
    out->decode_write_bytes = ck_mul(&ck, out->batch, fold_decode_write_bytes(&p->whole, &ck));
    if (p->offload > 0 || p->stages[0].work.offloaded_bytes)
        time_link(p, w, out);
    if (p->gpu_named) {
        time_plan(p, w, out, extra);
        if (out->decode_link_s > out->decode_s)
            out->decode_s = out->decode_link_s;
        if (w->prompt && out->prefill_link_s > out->prefill_s)
            out->prefill_s = out->prefill_link_s;
        out->tokens_per_s = out->decode_s > 0 ? (double)out->batch / out->decode_s : 0;
    }
    out->over |= ck.over;
}

/* Blocks are handed out on all stages at once, so the stage with the fewest has the say. */
static const struct stage *fewest_blocks(const struct problem *p, const struct stage *tightest)
{
    const struct stage *least = tightest;

    for (uint32_t i = 0; i < p->n_stages && least->pool.block_bytes; i++) {
        const struct stage *s = &p->stages[i];
        if (s->pool.block_bytes && s->budget.kv_pool_bytes / s->pool.block_bytes <
                                       least->budget.kv_pool_bytes / least->pool.block_bytes)
            least = s;
    }
    return least;
}

/* The engine's own figures of its pool, of one replica. */
static void count_pool(const struct problem *p, const struct workload *w, struct plan *out)
{
    const struct stage *s = fewest_blocks(p, &p->stages[out->tightest]);
    struct ck ck = {0};
    if (s->budget.reserved) {
        out->kv_blocks = out->kv_tokens = s->budget.pool_tokens;
        out->max_concurrency = (double)s->budget.slots;
        return;
    }
    uint64_t pool = s->budget.kv_pool_bytes, token = fold_token_bytes(&s->fold, false, &ck);
    uint64_t len =
        p->settings.max_model_len ? p->settings.max_model_len : w->prompt + w->output;

    if (s->pool.block_bytes) {
        struct engine_lines lines = {0, 0};
        out->kv_blocks = pool / s->pool.block_bytes;
        p->engine->lines(&p->settings, &s->pool, out->kv_blocks, len, &lines);
        out->kv_tokens = lines.kv_tokens;
        out->max_concurrency = lines.max_concurrency;
        return;
    }
    out->kv_blocks = token ? pool / ck_mul(&ck, token, p->block_tokens) : 0;
    out->kv_tokens = ck_prod(&ck, out->kv_blocks, p->block_tokens, p->parallel.cp);
    uint64_t one = fold_resident_bytes(&s->fold, len, 0, p->block_tokens, &ck);
    out->max_concurrency = one ? (double)pool / (double)one : 0;
    out->over |= ck.over;
}

void plan_solve(const struct problem *p, const struct workload *w, struct plan *out)
{
    memset(out, 0, sizeof *out);
    out->max_batch = solve_batch(p, w, &out->batch_limit, &out->tightest, &out->need);
    out->fits = out->max_batch >= u64_max(w->batch, 1);
    out->context_batch = u64_max(w->batch, 1);
    out->max_context = capacity_max_context(p, w, out->context_batch, &out->context_limit);
    out->batch = w->batch ? w->batch : u64_max(out->max_batch, 1);
    if (!w->batch && out->batch >= CAPACITY_MAX)
        out->batch = 1; /* nothing limits it: a figure for one sequence */
    count_pool(p, w, out);
    cost_plan(p, w, out);
}
