/* l2norm - keeps the keys of lowest L2 norm, each K/V head for itself; some layers are
 * skipped, that is, kept whole. Two schedules of the official code differ much: once, after
 * the whole prefill; or after every forward pass, which saws between ceil(keep_ratio *
 * prune_after) and prune_after. With `capacity` it is KVCache-Factory's port: exactly so
 * many, inside each layer's prefill. */
#include "planner/cache/keep.h"

enum schedule { SCHEDULE_ONCE, SCHEDULE_EVERY_STEP };
enum { SKIP_DEFAULT = 2 };

struct params {
    double keep_ratio, compression_ratio;
    uint64_t prune_after, schedule, capacity, layout;
    const struct doc_node *skip_layers;
    bool sorted_copies;
};

static const char *const schedules[] = {"once", "every_step", NULL};

static const struct field fields[] = {
    FIELD(struct params, keep_ratio, "keep_ratio", F_NUMBER, 0, 1, "0.98",
          "share of the keys that stays"),
    FIELD(struct params, prune_after, "prune_after", F_TOKENS, 0, KEEP_TOKENS_MAX, "1000",
          "shorter caches are left alone"),
    FIELD(struct params, skip_layers, "skip_layers", F_NODE, 0, 0, NULL,
          "0-based layers that are kept whole; [0, 1] if not given"),
    FIELD_CHOICE(struct params, schedule, "schedule", schedules, "once",
                 "once after the prefill, or after every forward pass"),
    FIELD(struct params, capacity, "capacity", F_TOKENS, 0, KEEP_TOKENS_MAX, NULL,
          "KVCache-Factory: keys a head keeps of the prompt, in place of keep_ratio"),
    FIELD(struct params, sorted_copies, "sorted_copies", F_BOOL, 0, 0, "false",
          "count the sorted full-length copies that outlive the compression of a layer"),
    KEEP_LAYOUT_FIELD(struct params, "query_head"),
    KEEP_RATIO_FIELD(struct params),
};

/* source: alessiodevoto/l2compress@f93d6ca cache.py: below the threshold nothing, else ceil
 * of a double product. */
static uint64_t pruned(const struct params *p, uint64_t n)
{
    return n < p->prune_after ? n : u64_min(n, keep_ceil(p->keep_ratio * (double)n));
}

static uint64_t once_prompt(const struct keep *k, uint64_t n)
{
    return pruned(k->params, n);
}

struct saw {
    uint64_t tokens, most; /* after the last step, and inside any step */
};

/* Steps of +1 and a pruning. Runs below the threshold and runs in which rounding drops
 * nothing are jumped over, whole teeth of the saw too; what is left is the descent, one step
 * for each pruning. */
static struct saw run_saw(const struct params *p, uint64_t tokens, uint64_t steps)
{
    struct saw s = {tokens, tokens};
    uint64_t idle = p->keep_ratio < 1 ? keep_floor(1 / (1 - p->keep_ratio)) : UINT64_MAX;

    while (steps) {
        uint64_t next = s.tokens + 1, left = pruned(p, next);
        if (left == next) {
            uint64_t until = next < p->prune_after ? p->prune_after : u64_max(idle, next + 1);
            uint64_t jump = u64_min(steps, until - next);
            s.tokens += jump;
            steps -= jump;
            s.most = u64_max(s.most, s.tokens);
            continue;
        }
        s.most = u64_max(s.most, next);
        steps--;
        if (left == s.tokens)
            break; /* every further step drops one */
        if (next == p->prune_after)
            steps %= next - left; /* a tooth is as long as what it drops */
        s.tokens = left;
    }
    return s;
}

static uint64_t saw_decode(const struct keep *k, uint64_t n, uint64_t decoded)
{
    return run_saw(k->params, pruned(k->params, n), decoded).tokens;
}

static uint64_t saw_peak(const struct keep *k, uint64_t n, uint64_t decoded)
{
    return run_saw(k->params, pruned(k->params, n), decoded).most;
}

static struct keep rule_of(const struct scheme_use *use)
{
    const struct params *p = use->params;
    struct keep rule = {.params = p, .prompt = once_prompt, .when = KEEP_AFTER_PREFILL};

    if (p->compression_ratio > 0)
        return keep_press(use, p->compression_ratio);
    if (p->capacity) {
        rule.prompt = keep_cap_prompt;
        rule.fixed = p->capacity;
        rule.when = KEEP_IN_LAYER;
        return rule;
    }
    if (p->schedule == SCHEDULE_EVERY_STEP) {
        rule.decode = saw_decode;
        rule.peak = saw_peak;
        rule.when = KEEP_EVERY_STEP;
    }
    rule.copies_in_prefill = p->sorted_copies;
    return rule;
}

/* Marks the skipped layers; those beyond the model are ignored, as by the code. */
static bool read_skips(const struct scheme_use *use, const struct layout *lay, bool *skip,
                       struct diag *d)
{
    const struct params *p = use->params;
    const struct doc_node *list = p->skip_layers, *e = list;

    if (doc_is_null(list)) {
        for (uint32_t i = 0; i < SKIP_DEFAULT && i < lay->n_layers; i++)
            skip[i] = true;
        return true;
    }
    if (list->kind == DOC_MAP)
        return diag_add(d, DIAG_INPUT, list->at,
                        "skip_layers needs layer numbers, counted from 0");
    for (e = list->kind == DOC_LIST ? list->first : list; e; e = e->next) {
        uint64_t v = 0;
        if (!doc_u64(e, 0, UINT32_MAX, d, &v))
            return false;
        if (v < lay->n_layers)
            skip[v] = true;
        if (list->kind != DOC_LIST)
            break;
    }
    return true;
}

/* A store has one rule, so its readers must agree on it, unless the list is the default:
 * then the owner decides. */
static bool check_readers(const struct scheme_use *use, const struct layout *lay,
                          const bool *skip, struct diag *d)
{
    const struct params *p = use->params;
    bool ok = true;

    for (uint32_t i = 0; i < lay->n_rows; i++) {
        uint32_t from = lay->rows[lay->rows[i].source].layer, to = lay->rows[i].layer;
        if (skip[from] == skip[to] || lay->rows[i].stream == STREAM_STATE)
            continue;
        if (doc_is_null(p->skip_layers))
            diag_add(d, DIAG_NOTE, use->at,
                     "%s: layer %u reads the cache of layer %u, so it sees what that one keeps",
                     use->name, to + 1, from + 1);
        else
            ok = diag_add(
                d, DIAG_INPUT, use->at,
                "%s: layer %u reads the cache of layer %u, but skip_layers names only one "
                "of them",
                use->name, to + 1, from + 1);
    }
    return ok;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;
    bool *skip = ARENA_NEW(lay->arena, bool, lay->n_layers ? lay->n_layers : 1);
    struct owners o, pruned_rows;

    if (p->capacity && p->compression_ratio > 0)
        return diag_add(d, DIAG_INPUT, use->at,
                        "l2norm: give one of capacity and compression_ratio");
    if (!keep_owners(use, lay, NEEDS_HEADS, d, &o))
        return false;
    if (p->compression_ratio > 0) {
        keep_set(use, lay, &o, rule_of(use));
        return true;
    }
    if (!read_skips(use, lay, skip, d) || !check_readers(use, lay, skip, d))
        return false;
    pruned_rows = (struct owners){0, ARENA_NEW(lay->arena, uint32_t, o.n)};
    for (uint32_t i = 0; i < o.n; i++)
        if (!skip[lay->rows[o.rows[i]].layer])
            pruned_rows.rows[pruned_rows.n++] = o.rows[i];
    keep_set(use, lay, &pruned_rows, rule_of(use));
    if (p->capacity && p->layout == LAYOUT_QUERY_HEAD)
        keep_query_heads(use, lay, &o, p->capacity, d);
    return true;
}

/* Norms: 2 FLOP an element of K. Norms, sort indices and the sorted copies of one layer at a
 * time. */
static void extra(const struct scheme_use *use, const struct layout *lay,
                  const struct phase *ph, struct extra_cost *out)
{
    const struct params *p = use->params;
    bool rolls =
        p->schedule == SCHEDULE_EVERY_STEP && !p->capacity && !(p->compression_ratio > 0);
    uint64_t most = 0;
    struct ck ck = {0};

    for (uint32_t i = keep_next(use, lay, 0); i < lay->n_rows; i = keep_next(use, lay, i + 1)) {
        const struct cache_row *r = &lay->rows[i];
        uint64_t n = row_unpruned_tokens(r, ph->prompt);
        uint64_t elems = ck_prod(&ck, r->kv_heads, n, (uint64_t)r->k_dim + r->v_dim);
        if (rolls && row_stored_tokens(r, ph->prompt, ph->decoded) + 1 >= p->prune_after)
            out->decode_flop += 2.0 * r->kv_heads * r->k_dim * (double)p->prune_after;
        if (row_stored_tokens(r, ph->prompt, 0) >= n)
            continue;
        out->prefill_flop += 2.0 * r->kv_heads * (double)n * r->k_dim;
        uint64_t norms = ck_prod(&ck, r->kv_heads, n, 2 + 8);
        most = u64_max(most, ck_add(&ck, norms, ck_mul(&ck, elems, 2)));
    }
    out->transient_prefill_bytes = ck_add(&ck, out->transient_prefill_bytes, most);
}

static const char *const names[] = {"l2norm", NULL};

const struct scheme scheme_l2norm = {
    .names = names,
    .summary = "keeps the keys of lowest norm; needs no attention scores",
    .source = "arXiv:2406.11430; alessiodevoto/l2compress@f93d6ca cache.py",
    .axis = AXIS_RETENTION,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .extra = extra,
    .confidence = "primary",
    .caveat = "published for retrieval and language modelling down to keep_ratio 0.5; poor for "
              "reasoning and long decodes",
    .compare = "{keep_ratio: 0.5, prune_after: 0}",
};
