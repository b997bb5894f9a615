/* A second simulator, naive and apart from sim/: numbered blocks in arrays, one list of blocks
 * a request, a scheduler that walks everything and runs one step at a time, as the engines'
 * sources read. Only the time of a step is shared (sim/step.h). On random requests the
 * simulator gives the same, jumping and step by step.
 *
 * Steps go through a queue of one batch, or of two as in vllm/v1/engine/core.py
 * (step_with_batch_queue): while the first runs the second is composed from what is known by
 * then, tokens that are still to come counted in. */
#include "planner/base/rng.h"
#include "planner/base/unit.h"
#include "tests/kvsim.h"

enum { BLOCKS = 512, REQUESTS = 40, HASHES = 32 };

struct twin_request {
    const struct ks_request *r;
    uint64_t id, n, computed, generated, decoded; /* n: what its (re)computed prompt has */
    uint64_t new_tokens;                          /* of this step */
    uint64_t pending;                             /* tokens of batches that are not done */
    bool decoding, seen, queued;
    int blocks[BLOCKS], n_blocks;
    uint64_t runs; /* times it was admitted: its own blocks are known by it */
    int host_blocks;
    struct outcome out;
};

struct list {
    struct twin_request *at[REQUESTS];
    int n;
};

struct batch {
    double end_s;
    struct twin_request *gives[REQUESTS]; /* those that get a token */
    int n;
};

struct twin {
    struct ks *k;
    struct batch batches[2]; /* the first one runs */
    int n_batches, depth;
    const struct policy *policy;
    uint64_t block_tokens, n_blocks, max_tokens, max_seqs, budget;
    uint64_t page_bytes;
    double now, host_bytes, swapped_bytes;
    int queue[BLOCKS], n_queue; /* free blocks, the next to be taken first */
    uint64_t hash[BLOCKS];      /* 0 = nothing known */
    int users[BLOCKS];
    struct list waiting, running, host;
    struct twin_request requests[REQUESTS];
    uint64_t steps, preempted;
    bool caches, decodes_run;
};

/* --- lists ------------------------------------------------------------------------------ */

static void insert(struct list *l, int at, struct twin_request *q)
{
    memmove(l->at + at + 1, l->at + at, (size_t)(l->n - at) * sizeof *l->at);
    l->at[at] = q;
    l->n++;
}

static void take_out(struct list *l, const struct twin_request *q)
{
    for (int i = 0; i < l->n; i++) {
        if (l->at[i] != q)
            continue;
        l->n--;
        memmove(l->at + i, l->at + i + 1, (size_t)(l->n - i) * sizeof *l->at);
        return;
    }
    fail_msg("not in the list");
}

/* --- blocks ----------------------------------------------------------------------------- */

static int take_block(struct twin *t)
{
    int b = t->queue[0];

    assert_true(t->n_queue > 0);
    t->n_queue--;
    memmove(t->queue, t->queue + 1, (size_t)t->n_queue * sizeof *t->queue);
    t->hash[b] = 0;
    t->users[b] = 1;
    return b;
}

/* The last block goes to the queue first. */
static void free_blocks(struct twin *t, struct twin_request *q)
{
    while (q->n_blocks) {
        int b = q->blocks[--q->n_blocks];
        if (--t->users[b] == 0)
            t->queue[t->n_queue++] = b;
    }
}

static int find_block(const struct twin *t, uint64_t hash)
{
    for (int b = 0; b < (int)t->n_blocks; b++)
        if (t->hash[b] == hash)
            return b;
    return -1;
}

static uint64_t pages(const struct twin *t, uint64_t tokens)
{
    return (tokens + t->block_tokens - 1) / t->block_tokens;
}

/* What block i is known by: the trace's hash, or something only this request looks for. */
static uint64_t hash_of(const struct twin *t, const struct twin_request *q, uint64_t i)
{
    if (i < q->r->prompt / t->block_tokens && i < q->r->n_hashes)
        return q->r->hashes[i];
    return (uint64_t)1 << 63 | q->id << 40 | q->runs << 20 | i;
}

/* Cached blocks of the first n - 1 tokens. */
static int cached(const struct twin *t, const struct twin_request *q, int found[])
{
    int n = 0;

    while (t->caches && (uint64_t)n < (q->n - 1) / t->block_tokens) {
        int b = find_block(t, hash_of(t, q, (uint64_t)n));
        if (b < 0)
            break;
        found[n++] = b;
    }
    return n;
}

static void use_cached(struct twin *t, struct twin_request *q, const int found[], int n)
{
    for (int i = 0; i < n; i++) {
        q->blocks[q->n_blocks++] = found[i];
        if (t->users[found[i]]++)
            continue;
        for (int j = 0; j < t->n_queue; j++) {
            if (t->queue[j] != found[i])
                continue;
            t->n_queue--;
            memmove(t->queue + j, t->queue + j + 1, (size_t)(t->n_queue - j) * sizeof(int));
            break;
        }
    }
}

/* Blocks for `tokens` tokens; those that become whole are known by their hash, unless another
 * block with the same content is. */
static void allocate(struct twin *t, struct twin_request *q, uint64_t tokens)
{
    while ((uint64_t)q->n_blocks < pages(t, tokens))
        q->blocks[q->n_blocks++] = take_block(t);
    for (uint64_t i = q->computed / t->block_tokens; t->caches && i < tokens / t->block_tokens;
         i++)
        if (find_block(t, hash_of(t, q, i)) < 0)
            t->hash[q->blocks[i]] = hash_of(t, q, i);
}

static bool fits(const struct twin *t, uint64_t blocks, double watermark)
{
    return (int64_t)blocks <= t->n_queue - (int64_t)(watermark * (double)t->n_blocks);
}

/* --- preemption -------------------------------------------------------------------------- */

/* Nothing more is to be computed of it. */
static bool whole(const struct twin_request *q)
{
    return q->generated + q->pending >= q->r->output;
}

static void preempt(struct twin *t, struct twin_request *q)
{
    take_out(&t->running, q);
    free_blocks(t, q);
    t->preempted++;
    if (whole(q)) /* its last token is on its way; only its place and blocks are gone */
        return;
    q->n = q->r->prompt + q->generated + q->pending;
    q->computed = q->decoded = 0;
    q->decoding = false;
    q->new_tokens = 0;
    q->out.preemptions++;
    insert(&t->waiting, 0, q);
}

static void preempt_last(struct twin *t)
{
    struct twin_request *q = t->running.at[t->running.n - 1];
    double bytes = (double)q->n_blocks * (double)t->page_bytes;

    if (!t->policy->swap || !q->decoding || whole(q) || t->host_bytes < bytes) {
        preempt(t, q);
        return;
    }
    q->host_blocks = q->n_blocks;
    t->host_bytes -= bytes;
    t->swapped_bytes += bytes;
    take_out(&t->running, q);
    free_blocks(t, q);
    q->new_tokens = 0;
    q->out.preemptions++;
    t->preempted++;
    insert(&t->host, t->host.n, q);
}

/* --- one step ------------------------------------------------------------------------------
 */

/* Tokens of a running request for this step; on shortage the last of the running goes. */
static void run_one(struct twin *t, struct twin_request *q, uint64_t tokens)
{
    while (!fits(t, pages(t, q->computed + tokens) - (uint64_t)q->n_blocks, 0)) {
        bool self = t->running.at[t->running.n - 1] == q;
        preempt_last(t);
        if (self)
            return;
    }
    allocate(t, q, q->computed + tokens);
    q->new_tokens = tokens;
    t->budget -= tokens;
}

static void run_decodes(struct twin *t, bool prompts_too)
{
    for (int i = 0; i < t->running.n; i++) {
        struct twin_request *q = t->running.at[i];
        uint64_t left = q->decoding ? 1 : q->n - q->computed;
        if ((!q->decoding && !prompts_too) || whole(q))
            continue;
        left = left < t->budget ? left : t->budget;
        if (left)
            run_one(t, q, left);
    }
}

static uint64_t most_blocks(const struct twin *t, const struct twin_request *q)
{
    return pages(t, q->r->prompt + q->r->output - 1);
}

static bool reserved(const struct twin *t, const struct twin_request *q)
{
    uint64_t sum = most_blocks(t, q);

    for (int i = 0; i < t->running.n; i++)
        sum += most_blocks(t, t->running.at[i]);
    return sum <= t->n_blocks;
}

static bool any_chunk(const struct twin *t)
{
    for (int i = 0; i < t->running.n; i++)
        if (t->running.at[i]->new_tokens && !t->running.at[i]->decoding)
            return true;
    return false;
}

static bool admit_one(struct twin *t)
{
    struct twin_request *q = t->waiting.at[0];
    int found[BLOCKS], hits = cached(t, q, found), unused = 0;
    uint64_t hit = (uint64_t)hits * t->block_tokens, left = q->n - hit;

    if (t->policy->chunked)
        left = left < t->budget ? left : t->budget;
    else if (left > t->budget && (any_chunk(t) || q->n <= t->max_tokens))
        return false;
    for (int i = 0; i < hits; i++)
        unused += t->users[found[i]] == 0;
    if (!fits(t, pages(t, hit + left) - (uint64_t)hits + (uint64_t)unused,
              t->policy->watermark))
        return false;
    if (t->policy->reserve && !reserved(t, q))
        return false;
    use_cached(t, q, found, hits);
    q->runs++;
    for (int i = 0; i < hits; i++)
        t->hash[found[i]] = hash_of(t, q, (uint64_t)i);
    take_out(&t->waiting, q);
    insert(&t->running, t->running.n, q);
    q->computed = hit;
    if (!q->seen) {
        q->seen = true;
        q->out.cached_tokens = hit;
        q->out.scheduled_s = t->now;
    }
    allocate(t, q, hit + left);
    q->new_tokens = left;
    t->budget -= left < t->budget ? left : t->budget;
    return true;
}

static void admit_all(struct twin *t)
{
    while (t->waiting.n && t->budget && (uint64_t)t->running.n < t->max_seqs)
        if (!admit_one(t))
            return;
}

static void swap_in(struct twin *t)
{
    while (t->host.n && !t->preempted && (uint64_t)t->running.n < t->max_seqs) {
        struct twin_request *q = t->host.at[0];
        if (!fits(t, pages(t, q->computed + 1), t->running.n ? t->policy->watermark : 0))
            return;
        take_out(&t->host, q);
        insert(&t->running, t->running.n, q);
        t->host_bytes += (double)q->host_blocks * (double)t->page_bytes;
        t->swapped_bytes += (double)q->host_blocks * (double)t->page_bytes;
        allocate(t, q, q->computed + 1);
        q->new_tokens = 1;
    }
}

/* False when nothing can run. */
static bool compose(struct twin *t)
{
    bool closed = t->host.n || (t->policy->batch && t->running.n);

    t->preempted = 0;
    t->swapped_bytes = 0;
    t->budget = t->policy->batch ? UINT64_MAX : t->max_tokens;
    for (int i = 0; i < REQUESTS; i++)
        t->requests[i].new_tokens = 0;
    if (t->policy->mixed) {
        run_decodes(t, true);
        if (!t->preempted)
            admit_all(t);
    } else {
        if (!closed)
            admit_all(t);
        if (!any_chunk(t)) {
            run_decodes(t, false);
            swap_in(t);
        }
    }
    for (int i = 0; i < REQUESTS; i++)
        if (t->requests[i].new_tokens)
            return true;
    return false;
}

/* The time of the step from nothing but what each request runs. */
static double step_s(const struct twin *t)
{
    const struct step_model *m = t->k->steps;
    struct step_batch *b = calloc(1, sizeof *b);
    struct step_line line;

    for (int i = 0; i < t->running.n; i++) {
        const struct twin_request *q = t->running.at[i];
        struct curve_piece piece;
        if (!q->new_tokens)
            continue;
        if (!q->decoding) {
            b->chunks[b->n_chunks++] = (struct step_chunk){q->n, q->computed, q->new_tokens,
                                                           q->computed + q->new_tokens == q->n};
            continue;
        }
        b->decodes++;
        for (uint32_t s = 0; s < m->n_stages; s++) {
            curve_reads(&m->curves[s], q->n, q->decoded, &piece);
            step_batch_add(b, s, m->curves[s].n_reads, &piece, 1);
        }
    }
    step_prepare(m, b, &line);
    free(b);
    return step_sum_s(&line, 1);
}

/* The composed step joins the queue: it begins when the one before it ends. */
static void push_batch(struct twin *t)
{
    double copies = t->k->kp->problem.link_bytes_per_s,
           start = t->n_batches ? t->batches[0].end_s : t->now;
    struct batch *b = &t->batches[t->n_batches++];

    b->n = 0;
    b->end_s = start + (t->swapped_bytes > 0 ? t->swapped_bytes / copies : 0) + step_s(t);
    t->steps++;
    for (int i = 0; i < t->running.n; i++) {
        struct twin_request *q = t->running.at[i];
        q->computed += q->new_tokens;
        if (!q->new_tokens || (!q->decoding && q->computed < q->n))
            continue;
        q->decoded += q->decoding;
        q->decoding = true;
        q->pending++;
        b->gives[b->n++] = q;
    }
}

/* The first batch is done: everyone in it has a token. */
static void pop_batch(struct twin *t)
{
    struct batch b = t->batches[0];

    t->now = b.end_s;
    t->batches[0] = t->batches[1];
    t->n_batches--;
    for (int i = 0; i < b.n; i++) {
        struct twin_request *q = b.gives[i];
        q->pending--;
        q->out.first_s = q->generated++ ? q->out.first_s : t->now;
        if (q->generated < q->r->output)
            continue;
        q->out.last_s = t->now;
        if (q->n_blocks) /* not preempted while it got its last token */
            take_out(&t->running, q);
        free_blocks(t, q);
    }
}

static bool notice(struct twin *t, double *next_s)
{
    bool any = false;

    *next_s = -1;
    for (int i = 0; i < REQUESTS; i++) {
        struct twin_request *q = &t->requests[i];
        if (q->queued)
            continue;
        if (q->r->arrival_s > t->now) {
            *next_s = q->r->arrival_s;
            break;
        }
        q->queued = true;
        any = true;
        if (most_blocks(t, q) > t->n_blocks) {
            q->out.end = REQUEST_REJECTED;
            continue;
        }
        q->out.queued_s = t->now;
        insert(&t->waiting, t->waiting.n, q);
    }
    return any;
}

static void run(struct twin *t)
{
    for (;;) {
        double next_s;
        notice(t, &next_s);
        if (compose(t)) {
            push_batch(t);
            if (t->n_batches == t->depth)
                pop_batch(t);
        } else if (t->n_batches) {
            pop_batch(t);
        } else if (t->preempted) {
            continue;
        } else if (t->waiting.n) { /* too long for the watermark */
            t->waiting.at[0]->out.end = REQUEST_REJECTED;
            take_out(&t->waiting, t->waiting.at[0]);
        } else if (next_s < 0) {
            return;
        } else {
            t->now = next_s;
        }
    }
}

/* --- both ----------------------------------------------------------------------------------
 */

static const char *const specs[] = {
    KS_MODEL KS_GPU
    "engine: {name: vllm, version: \"0.19.0\", block_tokens: 512, max_model_len: "
    "16384, max_seqs: 7, max_batched_tokens: 700}\n"
    "memory: {per_gpu: {kv_pool_bytes: 8388608}}\n",
    KS_MODEL KS_GPU
    "engine: {name: vllm, version: \"0.19.0\", block_tokens: 512, max_model_len: "
    "16384, max_seqs: 32, max_batched_tokens: 4096}\n"
    "memory: {per_gpu: {kv_pool_bytes: 16777216}}\n",
    KS_MODEL KS_GPU
    "engine: {name: vllm, version: \"0.19.0\", block_tokens: 16, max_model_len: "
    "16384, max_seqs: 9, max_batched_tokens: 512}\n"
    "memory: {per_gpu: {kv_pool_bytes: 6291456}}\n",
};

static struct twin *twin_new(struct ks *k, const struct ks_request *r)
{
    struct twin *t = calloc(1, sizeof *t);
    const struct problem *p = &k->kp->problem;

    t->k = k;
    t->policy = k->opt.policy;
    t->depth = k->opt.ahead == SIM_AHEAD_ON ? 2 : 1;
    t->caches = k->opt.prefix_cache;
    t->block_tokens = p->stages[0].pool.kinds[0].block_tokens;
    t->page_bytes = p->stages[0].pool.block_bytes;
    t->n_blocks = p->stages[0].budget.kv_pool_bytes / t->page_bytes;
    assert_true(t->n_blocks <= BLOCKS);
    t->max_tokens = p->settings.max_batched_tokens;
    t->max_seqs = p->settings.max_seqs;
    t->host_bytes = p->host_bytes ? (double)p->host_bytes : 4.0 * (1 << 30);
    for (int i = 0; i < (int)t->n_blocks; i++)
        t->queue[t->n_queue++] = i;
    for (int i = 0; i < REQUESTS; i++) {
        t->requests[i].r = &r[i];
        t->requests[i].id = (uint64_t)i;
        t->requests[i].n = r[i].prompt;
    }
    return t;
}

static void same_s(double got, double want)
{
    if (got - want > 1e-9 || want - got > 1e-9) {
        print_error("%.12g, the twin %.12g\n", got, want);
        fail();
    }
}

static void compare(const struct ks *k, const struct twin *t)
{
    for (int i = 0; i < REQUESTS; i++) {
        const struct outcome *a = &k->outcomes[i], *b = &t->requests[i].out;
        assert_int_equal(a->end, b->end);
        if (b->end == REQUEST_REJECTED)
            continue;
        same_s(a->queued_s, b->queued_s);
        same_s(a->scheduled_s, b->scheduled_s);
        same_s(a->first_s, b->first_s);
        same_s(a->last_s, b->last_s);
        kt_u64(a->cached_tokens, b->cached_tokens);
        kt_u64(a->preemptions, b->preemptions);
    }
    kt_u64(k->now.steps, t->steps);
}

static void draw(struct rng *r, struct ks_request *q, uint64_t hashes[][HASHES], bool known)
{
    double at = 0, gap = rng_unit(r) * (rng_below(r, 2) ? 0.2 : 0.02);

    for (int i = 0; i < REQUESTS; i++) {
        uint64_t most = rng_below(r, 3) ? 900 : 6000, hash = 1;
        at += rng_below(r, 3) ? gap * rng_unit(r) : 0;
        q[i] = (struct ks_request){at, 1 + rng_below(r, most), 1 + rng_below(r, 200), NULL, 0,
                                   512};
        if (rng_below(r, 4) == 0)
            q[i].prompt = 512 * (1 + rng_below(r, 6));
        q[i].n_hashes = known ? (uint32_t)((q[i].prompt + 511) / 512) : 0;
        q[i].hashes = hashes[i];
        for (uint32_t j = 0; j < q[i].n_hashes; j++)
            hashes[i][j] = hash = hash * 31 + rng_below(r, 2) + 1;
    }
}

static uint64_t cases(void)
{
    const char *text = getenv("KV_CASES");
    uint64_t n;

    return text && unit_parse_u64(text, &n) == UNIT_OK ? n : 20;
}

static const char *const policies[] = {"vllm-v1", "fcfs", "swap", "static", "no-evict"};

static void test_twin(void **state)
{
    struct rng r = {kt_seed(11)};
    static struct ks_request q[REQUESTS];
    uint64_t(*hashes)[HASHES] = calloc(REQUESTS, sizeof *hashes);

    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof *specs; s++) {
        struct ks *k = ks_build(specs[s]);
        for (uint64_t i = 0; i < cases(); i++) {
            bool caches = rng_below(&r, 2), known = caches && s < 2 && rng_below(&r, 4);
            struct twin *t;
            k->opt.policy = ks_policy(k, policies[rng_below(&r, 5)]);
            k->opt.prefix_cache = caches;
            k->opt.ahead = rng_below(&r, 2) ? SIM_AHEAD_ON : SIM_AHEAD_OFF;
            print_message("# spec %zu, %s, ahead %d, prefix %d, case %d\n", s,
                          k->opt.policy->name, (int)k->opt.ahead, caches, (int)i);
            draw(&r, q, hashes, known);
            t = twin_new(k, q);
            run(t);
            k->opt.every_step = rng_below(&r, 2);
            ks_run(k, q, REQUESTS);
            compare(k, t);
            free(t);
        }
        ks_free(k);
    }
    free(hashes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_twin)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
