/* Stores of a decoder: which rows each holds of a prompt and in a decode by the rule of its
 * scheme, where they go, in how many pages, and whether a prompt passes through scratch. */
#include <string.h>

#include "planner/cache/keep.h"
#include "validate/paged.h"
#include "validate/shape_in.h"

enum {
    FACTORY_SINKS = 4,
    EXPECT_SINKS = 4, /* n_sink of kvpress' ExpectedAttention */
    CHUNK_WINDOW = 64 /* queries of the scorer under ChunkKV (planner/cache/scheme/chunkkv.c) */
};

/* Some query does not see its own position, and reads this store before it has the row. */
static bool read_masked(const struct layout *l, uint32_t row)
{
    for (uint32_t i = 0; i < l->n_rows; i++)
        if (l->rows[i].source == row && l->rows[i].diagonal_masked)
            return true;
    return false;
}

/* How many rows stay where a rule says a share of the prompt, or a number. */
static uint32_t tokens_or_share(const struct shape *s, const struct scheme_use *u,
                                const char *tokens, const char *share)
{
    double ratio = shape_ratio_param(u, share);

    return ratio > 0 ? shape_rows(keep_floor(ratio * s->set.prompt))
                     : shape_rows(shape_param(u, tokens));
}

/* The last rows that stay under H2O's names (planner/cache/scheme/h2o.c); FlexGen keeps as many
 * of them as heavy hitters. */
static uint32_t heavy_recent(const struct shape *s, const struct shape_store *t,
                             const struct scheme_use *u)
{
    if (t->rule == RULE_MEAN)
        return 0;
    if (shape_param(u, "capacity"))
        return t->window;
    if (shape_param(u, "mode"))
        return tokens_or_share(s, u, "heavy", "heavy_ratio");
    return tokens_or_share(s, u, "recent", "recent_ratio");
}

/* The first and the last rows stay. In a ring nothing moves; but where a layer reads it before
 * it has the new row, it has a hole there: rows move instead. */
static void choose_ends(const struct shape *s, struct shape_store *t,
                        const struct scheme_use *u)
{
    t->first = FACTORY_SINKS;
    if (!t->drops)
        return;
    t->sinks =
        (struct ring){(uint32_t)shape_param(u, "sinks"), (uint32_t)shape_param(u, "recent")};
    t->first = t->sinks.sinks;
    t->recent = t->sinks.recent;
    if (read_masked(&s->problem->layout, t->number))
        return;
    t->rule = RULE_NONE;
    t->place = PLACE_SINKS;
}

/* AdaKV's budget of a layer, and room for HeadKV's of each head. */
static void choose_heads(struct shape *s, struct shape_store *t, const struct scheme_use *u)
{
    uint32_t base;

    if (t->rule == RULE_GIVEN) {
        t->given = ARENA_NEW(s->arena, uint32_t, t->row.stored_heads);
        return;
    }
    base = (uint32_t)shape_param(u, "capacity") - t->window;
    t->floor_ratio = shape_ratio_param(u, "floor_ratio");
    t->floor_tokens = (uint32_t)keep_floor(base * t->floor_ratio);
    t->chosen = base * t->row.stored_heads;
}

/* Whether the rule lets rows go in decode steps; under a window that is no longer, age does. */
static bool drops_in_decode(const struct shape *s, const struct shape_store *t)
{
    struct cache_row free = t->row;

    free.store_window_tokens = 0;
    return t->row.keep.decode &&
           (!t->ring || row_peak_tokens(&free, s->set.prompt, s->set.output) <= t->ring);
}

static void choose_rule(struct shape *s, struct shape_store *t, const struct scheme_use *u)
{
    (void)shape_rule(u, &t->rule);
    t->drops = drops_in_decode(s, t);
    if (t->row.keep.decode && !t->drops)
        t->rule = RULE_NONE;
    if (t->drops)
        t->place = PLACE_NEXT;
    if (t->rule == RULE_ENDS) {
        choose_ends(s, t, u);
        return;
    }
    t->window = shape_rows(shape_param(u, "window"));
    if (t->rule == RULE_LAST)
        t->window = 1;
    if (t->rule == RULE_CHUNKS) {
        t->window = CHUNK_WINDOW;
        t->span = shape_rows(shape_param(u, "chunk"));
    }
    t->window = t->window < s->set.prompt ? t->window : s->set.prompt;
    if (t->rule == RULE_WINDOW || t->rule == RULE_HEADS || t->rule == RULE_GIVEN ||
        t->rule == RULE_SHIFT)
        t->recent = t->window;
    if (t->rule == RULE_HEADS || t->rule == RULE_GIVEN)
        choose_heads(s, t, u);
    if (t->rule == RULE_EXPECT)
        t->first = EXPECT_SINKS;
    if (t->rule == RULE_ALL || t->rule == RULE_MEAN)
        t->recent = heavy_recent(s, t, u);
}

static void choose_place(struct shape *s, struct shape_store *t)
{
    const struct scheme_use *u = shape_retention(s->problem);

    t->ring = shape_rows(t->row.store_window_tokens);
    t->place = t->ring ? PLACE_RING : PLACE_NEXT;
    t->from = s->set.prompt - shape_whole(s, t);
    if (t->row.keep.prompt || t->row.keep.decode)
        choose_rule(s, t, u);
    t->bounds = u && !strcmp(u->name, "quest");
    t->states = u && !strcmp(u->name, "decoding-press");
    if (t->bounds)
        t->span = shape_rows(shape_param(u, "page"));
}

/* HeadKV's numbers come from importance scores measured once, which sum to 1; these are drawn,
 * two heads at a time about the mean. */
static void give_rows(const struct shape *s, struct shape_store *t)
{
    struct rng rng = {s->set.seed + t->number};
    uint32_t mean = t->prompt_rows, most = shape_whole(s, t) - mean;

    most = mean - t->recent < most ? mean - t->recent : most;
    for (uint32_t h = 0; h < t->row.stored_heads; h++)
        t->given[h] = mean;
    for (uint32_t h = 0; h + 1 < t->row.stored_heads; h += 2) {
        uint32_t by = (uint32_t)rng_below(&rng, (uint64_t)most + 1);
        t->given[h] += by;
        t->given[h + 1] -= by;
    }
}

/* The heads of a sequence take their pages from one stock; one more page is for what is
 * dropped.
 */
static void ragged_pages(const struct shape *s, struct shape_store *t)
{
    uint32_t page = t->view.page_tokens, heads = t->view.heads;
    uint64_t rows = (uint64_t)heads * ((uint64_t)t->most_rows + 1);
    uint64_t longest = (uint64_t)s->set.prompt + s->set.output;

    t->own_pages = shape_rows(ck_ceil_div(rows, page) + (page > 1 ? heads : 0));
    t->spare_pages = 1;
    t->entries = shape_rows(ck_ceil_div(longest, page));
}

/* Whole pages for what the sequences hold; tokens that KIVI keeps in 16 bits have none. */
static void pages(const struct shape *s, struct shape_store *t)
{
    struct paged_in in = {.row = &t->row,
                          .sequences = s->set.sequences,
                          .room = t->most_rows > t->whole_rows ? t->most_rows : t->whole_rows,
                          .page_tokens =
                              t->bounds ? t->span : shape_rows(s->problem->block_tokens)};
    uint32_t page, most = t->most_rows;

    paged_view(&in, &t->view);
    page = t->view.page_tokens;
    if (t->view.residual)
        most -= most % t->view.residual;
    t->own_pages = most / page + (most % page != 0);
    if (!t->view.residual && t->whole_rows > t->own_pages * page)
        t->spare_pages = t->whole_rows / page + (t->whole_rows % page != 0) - t->own_pages;
    t->entries = t->own_pages + t->spare_pages;
    t->entries += !t->entries;
    if (t->view.residual) /* tables span the tail, whose entries are not looked at */
        t->entries = t->most_rows / page + 1;
    if (t->view.ragged) /* a head may keep everything; rounding adds a row a head at most */
        ragged_pages(s, t);
    if (t->view.k.store == STORE_INT8 && !t->view.k.scales)
        t->view.k.scale = 0.0625f; /* what is not measured: activations of about 1 */
    if (t->view.v.store == STORE_INT8 && !t->view.v.scales)
        t->view.v.scale = 0.0625f;
}

/* Where the store's heads begin among those that its layer projects. */
static void find_heads(const struct shape *s, struct shape_store *t)
{
    const struct layout *l = &s->problem->layout;

    t->repeat = t->row.stored_heads / t->row.kv_heads;
    for (uint32_t i = t->number - t->row.group; i < t->number; i++)
        t->first_head += shape_row(s->problem, i).kv_heads;
    t->layer_heads =
        t->row.stream == STREAM_KV
            ? shard_kv_heads(l->layers[t->layer].attn.kv_heads, s->problem->parallel.tp)
            : t->row.kv_heads;
}

/* A prompt's rows pass through scratch where they are cut or packed before the next layer. */
static void choose_scratch(struct shape *s, struct shape_store *t)
{
    bool kivi = t->row.k_format.residual != RESIDUAL_NONE;
    bool acts = t->rule != RULE_NONE || t->place == PLACE_SINKS;

    t->late = acts && t->row.keep.when != KEEP_IN_LAYER && !kivi;
    t->scratch = kivi || t->ring || (acts && !t->late);
    t->scratch_last = layout_last_reader(&s->problem->layout, t->number);
}

void shape_add_store(struct shape *s, uint32_t row)
{
    struct shape_store *t = &s->stores[s->n_stores++];
    uint64_t n = s->set.prompt;

    *t = (struct shape_store){.row = shape_row(s->problem, row), .number = row};
    t->layer = t->row.layer;
    find_heads(s, t);
    choose_place(s, t);
    choose_scratch(s, t);
    t->prompt_rows = shape_rows(row_stored_tokens(&t->row, n, 0));
    t->most_rows = shape_rows(row_peak_tokens(&t->row, n, s->set.output));
    t->whole_rows = t->scratch && !t->late ? t->prompt_rows : shape_whole(s, t);
    if (t->rule == RULE_GIVEN)
        give_rows(s, t);
    if (t->rule != RULE_NONE || t->place == PLACE_SINKS || t->bounds) {
        uint32_t most = t->most_rows > (uint32_t)n ? t->most_rows : (uint32_t)n;

        s->places = s->places > most ? s->places : most;
    }
    pages(s, t);
    s->heads_max = s->heads_max > t->view.heads ? s->heads_max : t->view.heads;
    s->fp16 |= t->view.k.store == STORE_FP16;
    s->expects |= t->rule == RULE_EXPECT;
}

uint32_t shape_whole(const struct shape *s, const struct shape_store *t)
{
    return shape_rows(row_unpruned_tokens(&t->row, s->set.prompt));
}

bool shape_scored(const struct shape_store *t)
{
    return t->rule != RULE_NONE && t->rule != RULE_NORM && t->rule != RULE_ENDS &&
           t->rule != RULE_ANGLE;
}

uint32_t shape_stored(const struct shape *s, const struct shape_store *t, uint32_t decoded)
{
    return shape_rows(row_stored_tokens(&t->row, s->set.prompt, decoded));
}
