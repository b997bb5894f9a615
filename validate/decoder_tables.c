/* Tables of a decoder: page tables and the rotary table once, and what changes from step to
 * step (positions, lengths, places of new rows, chosen experts) in one piece a step. */
#include <math.h>

#include "validate/decoder_in.h"

/* --- once -----------------------------------------------------------------------------------
 */

/* Row i of head h of the scratch, in which a token's heads stand together. */
static enum device_status scratch_lists(struct decoder *x, uint32_t k)
{
    uint32_t heads = x->s.stores[k].view.heads, n = x->s.set.prompt;
    uint32_t *table = ARENA_NEW(x->arena, uint32_t, (size_t)heads * n);

    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < n; i++)
            table[(size_t)h * n + i] = i * heads + h;
    x->stores[k].head_rows = ARENA_NEW(x->arena, uint32_t, (size_t)heads * x->s.set.sequences);
    return device_upload(x->d, x->stores[k].scratch_table, table, 4 * (uint64_t)heads * n);
}

/* Entries beyond what a head can hold lead to the last page, where no one reads: heads that
 * keep fewer rows than others are appended to all the same. */
enum device_status decoder_deal_pages(struct decoder *x, uint32_t store, uint32_t sequence)
{
    const struct shape_store *t = &x->s.stores[store];
    uint32_t heads = t->view.heads, page = t->view.page_tokens, n = t->view.sequences;
    uint32_t next = sequence * t->own_pages, end = next + t->own_pages;
    struct arena *a = arena_new();
    uint32_t *table = ARENA_NEW(a, uint32_t, (size_t)heads * t->entries);
    enum device_status s;

    for (uint32_t h = 0; h < heads; h++) {
        uint64_t rows =
            (uint64_t)x->stores[store].head_rows[sequence * heads + h] + x->s.set.output;
        for (uint32_t j = 0; j < t->entries; j++)
            table[(size_t)h * t->entries + j] =
                (uint64_t)j * page < rows && next < end ? next++ : n * t->own_pages;
    }
    s = device_upload(x->d, x->stores[store].table + (uint64_t)sequence * heads * t->entries,
                      table, 4 * (uint64_t)heads * t->entries);
    arena_free(a);
    return s;
}

/* Pages of the sequences stand between each other, so that no kernel can do without its table;
 * spare pages belong to the sequence in prefill. */
static enum device_status page_table(struct decoder *x, uint32_t k)
{
    const struct shape_store *t = &x->s.stores[k];
    uint32_t n = t->view.sequences, entries = x->stores[k].view.max_pages;
    uint32_t *table;

    if (t->view.ragged)
        return scratch_lists(x, k);
    table = ARENA_NEW(x->arena, uint32_t, (size_t)n * entries);
    for (uint32_t s = 0; s < n; s++)
        for (uint32_t j = 0; j < entries; j++) {
            bool own = j < t->own_pages, used = own || j < t->own_pages + t->spare_pages;
            table[(size_t)s * entries + j] = own    ? j * n + s
                                             : used ? n * t->own_pages + (j - t->own_pages)
                                                    : 0;
        }
    return device_upload(x->d, x->stores[k].table, table, 4 * (uint64_t)n * entries);
}

/* Row r, head h of the stored ones is row r, head first + h / repeat of the projected ones. */
static enum device_status widening(struct decoder *x, uint32_t k)
{
    const struct shape_store *t = &x->s.stores[k];
    uint32_t heads = t->view.heads, n = x->s.rows * heads;
    uint32_t *table;

    if (!decoder_widens(t))
        return DEVICE_OK;
    table = ARENA_NEW(x->arena, uint32_t, n);
    for (uint32_t i = 0; i < n; i++)
        table[i] = i / heads * t->layer_heads + t->first_head + i % heads / t->repeat;
    return device_upload(x->d, x->stores[k].widen, table, 4 * (uint64_t)n);
}

/* source: arXiv:2104.09864, base 10000 */
static enum device_status rotary(struct decoder *x, uint32_t positions)
{
    uint64_t words = shape_turns(&x->s, 0, positions);
    float *turns = ARENA_NEW(x->arena, float, words + 1), *at = turns;

    if (!x->turns)
        return DEVICE_OK;
    for (uint32_t d = 0; d < x->s.n_dims; d++) {
        uint32_t half = x->s.k_dims[d] / 16 * 8;
        for (uint64_t i = 0; i < (uint64_t)positions * half; i++) {
            double angle = (double)(i / half) * pow(10000, -(double)(i % half) / half);
            *at++ = (float)cos(angle);
            *at++ = (float)sin(angle);
        }
    }
    return device_upload(x->d, x->turns, turns, 4 * words);
}

/* Geometric from the first head to the last, of the whole model's heads: those of the first
 * rank. Where they are no power of two the rest stand between the first. source:
 * arXiv:2108.12409 section 3 and its code, ofirpress/attention_with_linear_biases */
static enum device_status slopes(struct decoder *x)
{
    const struct layout *l = &x->s.problem->layout;
    float *at = ARENA_NEW(x->arena, float, x->s.q_heads + 1);
    uint32_t heads = 0, whole = 1;

    if (!x->slopes)
        return DEVICE_OK;
    for (uint32_t i = 0; i < l->n_layers; i++)
        heads = heads > l->layers[i].attn.heads ? heads : l->layers[i].attn.heads;
    while (2 * whole <= heads)
        whole *= 2;
    for (uint32_t h = 0; h < x->s.q_heads; h++) {
        double between = 4 * (2.0 * (h - (double)whole) + 1) / whole;
        at[h] = (float)pow(2, h < whole ? -8 * (h + 1.0) / whole : -between);
    }
    return device_upload(x->d, x->slopes, at, 4 * (uint64_t)x->s.q_heads);
}

static enum device_status pairs(struct decoder *x)
{
    uint32_t n = x->s.side_by_side ? x->s.rows : 0;
    uint32_t *table = ARENA_NEW(x->arena, uint32_t, 2 * (size_t)n + 1);

    for (uint32_t i = 0; i < n; i++) {
        table[2 * i] = i;
        table[2 * i + 1] = n + i;
    }
    return n ? device_upload(x->d, x->pair, table, 8 * (uint64_t)n) : DEVICE_OK;
}

/* Tokens at random are of the rank's part of the vocabulary: it looks up no others. */
static enum device_status prompts(struct decoder *x)
{
    const struct decoder_setting *set = &x->s.set;
    uint64_t n = (uint64_t)set->sequences * set->prompt;
    const uint32_t *tokens = set->tokens;

    if (!tokens) {
        uint32_t *drawn = ARENA_NEW(x->arena, uint32_t, n);
        for (uint64_t i = 0; i < n; i++)
            drawn[i] = (uint32_t)rng_below(&x->rng, x->s.tokens);
        tokens = drawn;
    }
    return device_upload(x->d, x->prompts, tokens, 4 * n);
}

enum device_status decoder_fill_tables(struct decoder *x)
{
    uint32_t positions = x->s.set.prompt + x->s.set.output;
    uint32_t n = positions > x->s.rows ? positions : x->s.rows;
    uint32_t *iota = ARENA_NEW(x->arena, uint32_t, n);
    enum device_status s;

    for (uint32_t i = 0; i < n; i++)
        iota[i] = i;
    s = device_upload(x->d, x->iota, iota, 4 * (uint64_t)n);
    if (s == DEVICE_OK)
        s = rotary(x, positions);
    if (s == DEVICE_OK)
        s = decoder_fill_future(x);
    if (s == DEVICE_OK)
        s = slopes(x);
    if (s == DEVICE_OK)
        s = pairs(x);
    if (s == DEVICE_OK)
        s = prompts(x);
    for (uint32_t k = 0; k < x->s.n_stores && s == DEVICE_OK; k++) {
        s = page_table(x, k);
        if (s == DEVICE_OK)
            s = widening(x, k);
    }
    return s;
}

/* --- every step -----------------------------------------------------------------------------
 */

static enum device_status upload(struct decoder *x)
{
    return device_upload(x->d, x->step, x->host, 4 * (uint64_t)x->at.n);
}

/* Rows that the indexer of each new token scores and chooses. */
static void selections(struct decoder *x, uint32_t rows)
{
    for (uint32_t r = 0; x->s.selects && r < rows; r++) {
        uint32_t seen = x->host[x->at.position + r] + 1;
        x->host[x->at.seen + r] = seen;
        x->host[x->at.kept + r] = seen < x->s.selects ? seen : x->s.selects;
    }
}

enum device_status decoder_step_prefill(struct decoder *x, const struct decoder_pass *w)
{
    uint32_t *host = x->host, end = w->offset + w->rows;

    decoder_lay_words(x, x->s.rows);
    for (uint32_t r = 0; r < w->rows; r++) {
        host[x->at.position + r] = w->offset + r;
        host[x->at.sequence + r] = 0;
    }
    host[x->at.chunk_first] = 0;
    host[x->at.chunk_first + 1] = w->rows;
    host[x->at.chunk_offset] = host[x->at.chunk_before] = w->offset;
    host[x->at.chunk_length] = end;
    for (uint32_t k = 0; k < x->s.n_stores; k++) {
        const struct decoder_store *t = &x->stores[k];
        uint32_t lists = decoder_lists(&x->s.stores[k]);
        for (uint32_t r = 0; r < w->rows; r++) /* of scratch, or of a pool that is not ragged */
            host[t->index + r] = w->offset + r;
        for (uint32_t i = 0; i < lists; i++) {
            host[t->lengths + w->sequence * lists + i] = end;
            host[t->scratch_length + i] = end - x->s.stores[k].from;
        }
    }
    selections(x, w->rows);
    decoder_route(x, w->rows);
    return upload(x);
}

struct places { /* of the new row of a step */
    uint32_t index, before, after;
};

static struct places places_of(const struct decoder *x, const struct shape_store *t)
{
    uint32_t newest = x->s.set.prompt + x->decoded;
    uint32_t rows = t->prompt_rows + x->decoded; /* stored one after the other so far */
    uint32_t stored = shape_stored(&x->s, t, x->decoded);
    struct places p = {stored, stored, stored + 1};

    switch (t->place) {
    case PLACE_NEXT: break;
    case PLACE_RING:
        p.index = rows % t->ring;
        p.after = stored < t->ring ? stored + 1 : stored;
        if (t->row.mixer == MIXER_CHUNKED) { /* a stretch begins where the ring does */
            p.index = p.before = newest % t->ring;
            p.after = p.index + 1;
        }
        break;
    case PLACE_SINKS:
        p.index = ring_place(&t->sinks, ring_base(&t->sinks, x->s.set.prompt), newest);
        p.after = ring_rows(&t->sinks, newest, false);
        break;
    }
    return p;
}

static void head_places(struct decoder *x, const struct shape_store *t,
                        const struct decoder_store *y)
{
    for (uint32_t i = 0; i < t->view.sequences * t->view.heads; i++) {
        uint32_t rows = y->head_rows[i] + x->decoded;
        x->host[y->index + i] = x->host[y->before + i] = rows;
        x->host[y->lengths + i] = rows + 1;
    }
}

enum device_status decoder_step_decode(struct decoder *x)
{
    uint32_t n = x->s.set.sequences, *host = x->host;

    decoder_lay_words(x, n);
    for (uint32_t s = 0; s < n; s++) {
        host[x->at.position + s] = x->s.set.prompt + x->decoded;
        host[x->at.sequence + s] = host[x->at.first + s] = s;
    }
    host[x->at.first + n] = n;
    for (uint32_t k = 0; k < x->s.n_stores; k++) {
        const struct shape_store *t = &x->s.stores[k];
        const struct decoder_store *y = &x->stores[k];
        struct places p = places_of(x, t);
        bool drops = shape_stored(&x->s, t, x->decoded + 1) < p.after;
        if (t->view.ragged) {
            head_places(x, t, y);
            continue;
        }
        for (uint32_t s = 0; s < n; s++) {
            host[y->index + s] = p.index;
            host[y->before + s] = p.before;
            host[y->lengths + s] = p.after;
            host[y->slot + s] = !drops ? UINT32_MAX : t->recent ? y->replaced % t->recent : 0;
            if (t->bounds) {
                uint32_t seen = p.before ? p.before - 1 : 0;
                host[y->chosen_from + s] = p.before / t->span * t->span;
                host[y->chosen_from + n + s] = seen / t->span * t->span;
            }
        }
    }
    selections(x, n);
    decoder_route(x, n);
    return upload(x);
}
