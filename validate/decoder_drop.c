/* What retention schemes do to the cache: rank the rows of a prompt while its queries are
 * there, keep the best, bring what passed through scratch into the pages; and in a decode step
 * let a row go where the scheme stays at a budget. KIVI's tail is packed here too. */
#include "kernels/angles.h"
#include "kernels/append.h"
#include "kernels/chunks.h"
#include "kernels/evict.h"
#include "kernels/pages.h"
#include "kernels/prefer.h"
#include "kernels/replace.h"
#include "kernels/scores.h"
#include "validate/decoder_in.h"

enum { SHIFT_GAMMA = 200 }; /* CAKE's weight of variances */

/* --- a prompt -------------------------------------------------------------------------------
 */

static bool drops(const struct decoder *x, const struct shape_store *t)
{
    return t->rule != RULE_NONE && t->prompt_rows < shape_whole(&x->s, t);
}

/* The last queries rank all rows but their own. */
static bool windowed(const struct shape_store *t)
{
    return t->rule == RULE_WINDOW || t->rule == RULE_HEADS || t->rule == RULE_GIVEN ||
           t->rule == RULE_CHUNKS || t->rule == RULE_SHIFT;
}

/* Scores of the store's lists for `sequence`: its own, or those that all share. */
static float *all_sums(const struct decoder *x, uint32_t store, uint32_t sequence)
{
    const struct shape_store *t = &x->s.stores[store];
    float *own = x->stores[store].sums;

    if (own && t->drops)
        own += (uint64_t)sequence * t->view.heads * x->s.places;
    return own ? own : x->sums;
}

/* The same from the first row on that a window still holds after the prompt. */
static float *sums_of(const struct decoder *x, uint32_t store, uint32_t sequence)
{
    return all_sums(x, store, sequence) + x->s.stores[store].from;
}

/* CAKE: what the layer would like to keep, from what its scores have left. The layers' shares
 * are the plan's; where those are in proportion to these, they are what CAKE ends with: while
 * a prompt passes it cuts the same ranking again and again. */
static enum device_status prefer(struct decoder *x, const struct scores_args *of,
                                 uint32_t store, uint32_t sequence)
{
    struct prefer_args a = {.parts = of->parts,
                            .preferences = x->stores[store].preferences + sequence,
                            .sequences = 1,
                            .n = of->of.c.heads * scores_parts(of),
                            .tau_entropy = 1,
                            .tau_variance = 1};

    return prefer_run(x->d, &a);
}

enum device_status decoder_rank_prompt(struct decoder *x, const struct prefill_args *attention,
                                       uint32_t store, uint32_t sequence)
{
    const struct shape_store *t = &x->s.stores[store];
    bool all = t->rule == RULE_ALL || t->rule == RULE_MEAN, shifts = t->rule == RULE_SHIFT;
    enum device_status s;
    struct scores_args a = {.of = *attention,
                            .sums = all_sums(x, store, sequence),
                            .width = x->s.places,
                            .queries = all ? 0 : t->window,
                            .tail = windowed(t) ? t->window : 0,
                            .shifting = shifts,
                            .gamma = SHIFT_GAMMA,
                            .parts = x->parts};

    if (!shape_scored(t) || !(shifts || (t->rule == RULE_ALL && t->drops) || drops(x, t)))
        return DEVICE_OK;
    if (t->rule == RULE_EXPECT)
        return decoder_expect(x, store, attention, sums_of(x, store, sequence));
    s = scores_run(x->d, &a);
    return s == DEVICE_OK && shifts ? prefer(x, &a, store, sequence) : s;
}

/* The same number for every list. */
static enum device_status fill_counts(struct decoder *x, uint32_t *to, uint32_t lists,
                                      uint32_t n)
{
    for (uint32_t i = 0; i < lists; i++)
        x->lists[i] = n;
    return device_upload(x->d, to, x->lists, 4 * (uint64_t)lists);
}

static enum device_status pool(struct decoder *x, const struct shape_store *t, float *sums,
                               uint32_t sequences, uint32_t size)
{
    struct pool_args a = {.scores = sums,
                          .out = x->pooled,
                          .count = x->count,
                          .sequences = sequences,
                          .heads = t->view.heads,
                          .width = x->s.places,
                          .size = size,
                          .by_age = t->rule == RULE_MEAN,
                          .together = t->rule == RULE_LAST};

    return pool_run(x->d, &a);
}

/* From pooled scores of rows to those of their chunks. */
static enum device_status chunk_scores(struct decoder *x, const struct shape_store *t,
                                       float *out)
{
    struct chunks_args a = {.scores = x->pooled,
                            .out = out,
                            .count = x->count,
                            .sequences = 1,
                            .heads = t->view.heads,
                            .width = x->s.places,
                            .window = t->window,
                            .chunk = t->span};

    return chunks_run(x->d, &a);
}

/* What select_run is to look at; smallest: the norms, whose small ones stay. */
static enum device_status final_scores(struct decoder *x, uint32_t store, uint32_t sequence,
                                       const struct cache_view *c, float **out)
{
    const struct shape_store *t = &x->s.stores[store];
    uint32_t n = shape_whole(&x->s, t);
    enum device_status s;

    *out = sums_of(x, store, sequence);
    if (t->rule == RULE_NORM) {
        struct norms_args a = {.c = *c, .scores = *out, .width = x->s.places, .blocks = 1};
        return norms_run(x->d, &a);
    }
    if (t->rule == RULE_ANGLE) {
        struct angles_args a = {.c = *c,
                                .scores = *out,
                                .work = x->anchors,
                                .width = x->s.places,
                                .blocks = ANCHOR_BLOCKS};
        return angles_run(x->d, &a);
    }
    if (t->rule == RULE_ALL || t->rule == RULE_EXPECT)
        return DEVICE_OK;
    s = fill_counts(x, x->count, t->view.heads, windowed(t) ? n - t->window : n);
    if (s == DEVICE_OK)
        s = pool(x, t, *out, 1, windowed(t) ? SHAPE_POOL_SIZE : 1);
    if (s == DEVICE_OK && t->rule == RULE_CHUNKS)
        return chunk_scores(x, t, *out);
    *out = x->pooled;
    return s;
}

static enum device_status compact(struct decoder *x, const struct cache_view *c,
                                  uint32_t *order)
{
    struct compact_args a = {.c = *c,
                             .index = order,
                             .keep = x->keep,
                             .width = x->s.places,
                             .lengths = (uint32_t *)(uintptr_t)c->lengths};

    return compact_run(x->d, &a);
}

/* The first rows and the last ones, whatever is in them. */
static enum device_status order_ends(struct decoder *x, const struct shape_store *t)
{
    uint32_t first = t->first;
    uint32_t gone = shape_whole(&x->s, t) - t->prompt_rows;
    enum device_status s = DEVICE_OK;

    for (uint32_t j = 0; j < t->prompt_rows; j++)
        x->lists[j] = j < first ? j : gone + j;
    for (uint32_t h = 0; h < t->view.heads && s == DEVICE_OK; h++)
        s = device_upload(x->d, x->order + (uint64_t)h * x->s.places, x->lists,
                          4 * (uint64_t)t->prompt_rows);
    return s;
}

/* AdaKV: the best places among all heads decide how many rows each of them keeps. */
static enum device_status share_budget(struct decoder *x, const struct shape_store *t)
{
    uint32_t heads = t->view.heads, *chosen = x->keep + heads;
    struct select_args all = {.scores = x->pooled,
                              .count = x->count,
                              .keep = chosen,
                              .index = x->order,
                              .lists = 1,
                              .width = heads * x->s.places};
    struct budget_args b = {.index = x->order,
                            .chosen = chosen,
                            .count = x->count,
                            .keep = x->keep,
                            .sequences = 1,
                            .heads = heads,
                            .width = x->s.places,
                            .window = t->window,
                            .floor_tokens = t->floor_tokens,
                            .floor_ratio = t->floor_ratio};
    enum device_status s = fill_counts(x, x->count, 1, all.width);

    if (s == DEVICE_OK)
        s = fill_counts(x, chosen, 1, t->chosen);
    if (s == DEVICE_OK)
        s = select_run(x->d, &all);
    if (s == DEVICE_OK)
        s = fill_counts(x, x->count, heads, x->s.set.prompt);
    return s == DEVICE_OK ? budget_run(x->d, &b) : s;
}

/* Keeps the best rows of each head of one sequence. */
static enum device_status prune(struct decoder *x, uint32_t store, uint32_t sequence,
                                const struct cache_view *c)
{
    const struct shape_store *t = &x->s.stores[store];
    struct select_args a = {.count = x->count,
                            .keep = x->keep,
                            .index = x->order,
                            .lists = t->view.heads,
                            .width = x->s.places,
                            .recent = t->recent < t->prompt_rows ? t->recent : t->prompt_rows,
                            .smallest = t->rule == RULE_NORM || t->rule == RULE_ANGLE};
    uint32_t sinks = t->first < t->prompt_rows ? t->first : t->prompt_rows;
    bool ends = t->rule == RULE_ENDS || t->place == PLACE_SINKS;
    float *scores = NULL;
    enum device_status s = fill_counts(x, x->keep, a.lists, t->prompt_rows);

    if (s == DEVICE_OK)
        s = ends ? order_ends(x, t) : final_scores(x, store, sequence, c, &scores);
    a.scores = scores;
    a.sinks = t->rule == RULE_EXPECT ? sinks : 0;
    if (s == DEVICE_OK && t->rule == RULE_HEADS)
        s = share_budget(x, t);
    if (s == DEVICE_OK && t->rule == RULE_GIVEN)
        s = device_upload(x->d, x->keep, t->given, 4 * (uint64_t)a.lists);
    if (s == DEVICE_OK && !ends)
        s = fill_counts(x, x->count, a.lists, shape_whole(&x->s, t));
    if (s == DEVICE_OK && !ends)
        s = select_run(x->d, &a);
    if (s == DEVICE_OK)
        s = compact(x, c, x->order);
    x->cut = (struct decoder_cut){store,
                                  sequence,
                                  a.lists,
                                  t->from,
                                  shape_whole(&x->s, t),
                                  t->rule == RULE_ALL ? NULL : scores,
                                  a.smallest};
    if (s != DEVICE_OK || t->rule != RULE_ALL || !t->drops)
        return s;
    struct carry_args carry = {.scores = sums_of(x, store, sequence),
                               .index = x->order,
                               .keep = x->keep,
                               .lists = a.lists,
                               .width = x->s.places};
    return carry_run(x->d, &carry);
}

/* KIVI: groups of the oldest tokens from scratch. */
static enum device_status pack_prompt(struct decoder *x, const struct shape_store *t,
                                      const struct cache_view *c)
{
    struct pack_args a = {.c = *c, .source_tokens = x->s.set.prompt};
    enum device_status s = DEVICE_OK;

    for (int value = 0; value < 2 && s == DEVICE_OK; value++) {
        a.value = value;
        a.rows = value ? x->scratch_now[1] : x->scratch_now[0];
        a.count = cache_quantized(c, value, t->prompt_rows);
        if (a.count)
            s = pack_run(x->d, &a);
    }
    return s;
}

/* What stays is together: the rows of a window, or those that a rule has left of them. Where
 * stretches of tokens see each other a stretch begins where its ring does. */
static enum device_status from_scratch(struct decoder *x, uint32_t store, uint32_t sequence)
{
    const struct shape_store *t = &x->s.stores[store];
    const struct decoder_store *y = &x->stores[store];
    uint64_t first = 2 * (uint64_t)t->from * t->view.heads;
    uint32_t rows = t->late ? shape_whole(&x->s, t) : t->prompt_rows;
    bool stretches = t->ring && t->row.mixer == MIXER_CHUNKED;
    struct append_args a = {.k = (char *)y->k_scratch + first * t->view.k.dim,
                            .v = (char *)y->v_scratch + first * t->view.v.dim,
                            .rows = rows,
                            .sequence = x->step + x->at.sequence,
                            .index = x->step + y->index};
    enum device_status s;

    for (uint32_t r = 0; r < rows; r++)
        x->host[y->index + r] = stretches ? (t->from + r) % t->ring : r;
    x->host[y->lengths + sequence] = rows;
    s = device_upload(x->d, x->step + y->index, x->host + y->index, 4 * (uint64_t)rows);
    if (s == DEVICE_OK)
        s = device_upload(x->d, x->step + y->lengths + sequence,
                          x->host + y->lengths + sequence, 4);
    a.c = decoder_view(x, store, sequence, 1, y->lengths);
    x->scratch_now[0] = y->k_scratch;
    x->scratch_now[1] = y->v_scratch;
    if (s == DEVICE_OK && t->view.residual)
        s = pack_prompt(x, t, &a.c);
    return s == DEVICE_OK ? append_run(x->d, &a) : s;
}

/* Every head has its own number of rows; all get as many as the longest, of which those beyond
 * their own go where no one reads. */
static enum device_status ragged_from_scratch(struct decoder *x, uint32_t store,
                                              uint32_t sequence)
{
    const struct shape_store *t = &x->s.stores[store];
    const struct decoder_store *y = &x->stores[store];
    uint32_t heads = t->view.heads, most = 0, *rows = y->head_rows + sequence * heads;
    struct append_args a = {.k = y->k_scratch,
                            .v = y->v_scratch,
                            .sequence = x->step + x->at.sequence,
                            .index = x->step + y->index};
    enum device_status s = DEVICE_OK;

    for (uint32_t h = 0; h < heads; h++)
        rows[h] = x->s.set.prompt;
    if (drops(x, t))
        s = device_download(x->d, rows, x->keep, 4 * (uint64_t)heads);
    for (uint32_t h = 0; h < heads; h++)
        most = rows[h] > most ? rows[h] : most;
    for (uint32_t i = 0; i < most * heads; i++)
        x->host[y->index + i] = i / heads;
    if (s == DEVICE_OK)
        s = decoder_deal_pages(x, store, sequence);
    if (s == DEVICE_OK)
        s = device_upload(x->d, x->step + y->index, x->host + y->index,
                          4 * (uint64_t)most * heads);
    a.c = decoder_view(x, store, sequence, 1, y->lengths);
    a.rows = most;
    return s == DEVICE_OK ? append_run(x->d, &a) : s;
}

/* Whether something goes, here by its rank or its age. */
static bool cuts(const struct decoder *x, const struct shape_store *t)
{
    return drops(x, t) || (t->place == PLACE_SINKS && t->prompt_rows < shape_whole(&x->s, t));
}

enum device_status decoder_place_prompt(struct decoder *x, uint32_t store, uint32_t sequence)
{
    const struct shape_store *t = &x->s.stores[store];
    const struct decoder_store *y = &x->stores[store];
    struct cache_view c = decoder_scratch(x, store, y->scratch_length);
    enum device_status s = DEVICE_OK;

    c.table += t->from;
    if (t->view.ragged) {
        c.ragged = true;
        c.table = y->scratch_table;
    }
    if (!t->late && cuts(x, t))
        s = prune(x, store, sequence, &c);
    if (s != DEVICE_OK)
        return s;
    return t->view.ragged ? ragged_from_scratch(x, store, sequence)
                          : from_scratch(x, store, sequence);
}

enum device_status decoder_prune_prompt(struct decoder *x, uint32_t store, uint32_t sequence)
{
    struct cache_view c = decoder_view(x, store, sequence, 1, x->stores[store].lengths);

    return cuts(x, &x->s.stores[store]) ? prune(x, store, sequence, &c) : DEVICE_OK;
}

/* --- a decode step --------------------------------------------------------------------------
 */

/* Whether the store lets a row go after this step. */
static bool step_drops(const struct decoder *x, const struct shape_store *t)
{
    uint32_t now = shape_stored(&x->s, t, x->decoded);

    return t->rule != RULE_NONE && t->drops && shape_stored(&x->s, t, x->decoded + 1) < now + 1;
}

enum device_status decoder_rank_step(struct decoder *x, const struct prefill_args *attention,
                                     uint32_t store)
{
    const struct shape_store *t = &x->s.stores[store];
    struct scores_args a = {.of = *attention,
                            .sums = sums_of(x, store, 0),
                            .width = x->s.places,
                            .add = t->rule == RULE_ALL};
    enum device_status s;

    if (t->rule == RULE_LAST && !step_drops(x, t))
        return DEVICE_OK;
    s = scores_run(x->d, &a);
    decoder_tell(x, OP_SCHEME, t->layer, false);
    return s;
}

static enum device_status replace(struct decoder *x, uint32_t store)
{
    const struct shape_store *t = &x->s.stores[store];
    struct decoder_store *y = &x->stores[store];
    uint32_t n = x->s.set.sequences, after = shape_stored(&x->s, t, x->decoded) + 1;
    struct replace_args a = {.c = decoder_view(x, store, 0, n, y->lengths),
                             .scores = t->rule == RULE_ENDS ? NULL : sums_of(x, store, 0),
                             .width = x->s.places,
                             .heavy = after - 1 - t->recent,
                             .recent = t->recent,
                             .slot = x->step + y->slot,
                             .lengths = x->step + y->lengths};
    enum device_status s = DEVICE_OK;

    if (t->rule == RULE_LAST) {
        s = fill_counts(x, x->count, n * t->view.heads, after);
        if (s == DEVICE_OK)
            s = pool(x, t, a.scores, n, 1);
        a.scores = x->pooled;
    }
    y->replaced++;
    return s == DEVICE_OK ? replace_run(x->d, &a) : s;
}

/* The L2 norm ranks all rows anew. */
static enum device_status prune_step(struct decoder *x, uint32_t store)
{
    const struct shape_store *t = &x->s.stores[store];
    const struct decoder_store *y = &x->stores[store];
    uint32_t n = x->s.set.sequences, lists = n * t->view.heads;
    struct norms_args norms = {.c = decoder_view(x, store, 0, n, y->lengths),
                               .scores = x->sums,
                               .width = x->s.places,
                               .blocks = 1};
    struct select_args a = {.scores = x->sums,
                            .count = x->count,
                            .keep = x->keep,
                            .index = x->order,
                            .lists = lists,
                            .width = x->s.places,
                            .smallest = true};
    enum device_status s = norms_run(x->d, &norms);

    if (s == DEVICE_OK)
        s = fill_counts(x, x->count, lists, shape_stored(&x->s, t, x->decoded) + 1);
    if (s == DEVICE_OK)
        s = fill_counts(x, x->keep, lists, shape_stored(&x->s, t, x->decoded + 1));
    if (s == DEVICE_OK)
        s = select_run(x->d, &a);
    x->cut = (struct decoder_cut){.store = store,
                                  .lists = lists,
                                  .of = shape_stored(&x->s, t, x->decoded) + 1,
                                  .scores = x->sums,
                                  .smallest = true};
    return s == DEVICE_OK ? compact(x, &norms.c, x->order) : s;
}

enum device_status decoder_drop_step(struct decoder *x, uint32_t store)
{
    const struct shape_store *t = &x->s.stores[store];

    if (!step_drops(x, t))
        return DEVICE_OK;
    return t->rule == RULE_NORM ? prune_step(x, store) : replace(x, store);
}

/* --- Quest ----------------------------------------------------------------------------------
 */

enum device_status decoder_bound(struct decoder *x, const struct decoder_pass *w,
                                 uint32_t store)
{
    const struct decoder_store *y = &x->stores[store];
    struct bounds_args a = {.c = decoder_view(x, store, w->sequence, w->sequences, y->lengths),
                            .bounds = y->bounds,
                            .first = x->step + (w->prefill ? x->at.chunk_before : y->before)};
    enum device_status s = bounds_run(x->d, &a);

    decoder_tell(x, OP_SCHEME, x->s.stores[store].layer, w->prefill);
    return s;
}

/* The pages that promise most; the newest is read whatever it promises. */
static enum device_status best_pages(struct decoder *x, uint32_t layer,
                                     const struct cache_view *c, uint32_t pages)
{
    const struct shape_layer *l = &x->s.layers[layer];
    uint32_t store = l->parts[0].store, n = x->s.set.sequences, lists = n * c->heads;
    const struct decoder_store *y = &x->stores[store];
    struct estimate_args e = {.c = *c,
                              .bounds = y->bounds,
                              .q = x->q,
                              .scores = x->sums,
                              .width = x->s.places,
                              .q_heads = l->q_heads};
    struct select_args best = {.scores = x->sums,
                               .count = x->count,
                               .keep = x->keep,
                               .index = x->order,
                               .lists = lists,
                               .width = x->s.places,
                               .recent = 1};
    enum device_status s;

    e.c.lengths = x->step + y->chosen_from + (l->masked ? n : 0);
    s = estimate_run(x->d, &e);
    if (s == DEVICE_OK)
        s = fill_counts(x, x->count, lists, pages);
    if (s == DEVICE_OK)
        s = fill_counts(x, x->keep, lists, l->select_pages);
    x->cut = (struct decoder_cut){store, 0, lists, 0, pages, x->sums, false};
    return s == DEVICE_OK ? select_run(x->d, &best) : s;
}

enum device_status decoder_pick(struct decoder *x, uint32_t layer, struct cache_view *c)
{
    const struct shape_layer *l = &x->s.layers[layer];
    const struct shape_store *t = &x->s.stores[l->parts[0].store];
    uint32_t keys = shape_stored(&x->s, t, x->decoded) + !l->masked;
    uint32_t pages = keys / t->span + (keys % t->span != 0);
    uint64_t lists = (uint64_t)c->sequences * c->heads;
    struct pick_args a = {.c = *c,
                          .index = x->order,
                          .count = x->keep,
                          .width = x->s.places,
                          .table = x->picked,
                          .lengths = x->picked + lists * c->max_pages};
    enum device_status s;

    if (pages <= l->select_pages)
        return DEVICE_OK;
    s = best_pages(x, layer, c, pages);
    if (s == DEVICE_OK)
        s = pick_run(x->d, &a);
    c->ragged = true;
    c->table = a.table;
    c->lengths = a.lengths;
    return s;
}

/* --- KIVI -----------------------------------------------------------------------------------
 */

enum device_status decoder_pack(struct decoder *x, uint32_t store, bool before)
{
    const struct shape_store *t = &x->s.stores[store];
    const struct decoder_store *y = &x->stores[store];
    uint32_t r = t->view.residual, stored = shape_stored(&x->s, t, x->decoded);
    struct pack_args a = {.value = before, .count = before ? 1 : r};

    if (!r || (before ? stored < r : (stored + 1) % r != 0))
        return DEVICE_OK;
    a.first = before ? stored - r : stored + 1 - r;
    a.c = decoder_view(x, store, 0, x->s.set.sequences, before ? y->before : y->lengths);
    return pack_run(x->d, &a);
}
