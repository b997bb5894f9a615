/* From a row of the layout to a cache on a device. */
#include "validate/paged.h"

#include <string.h>

enum { CHUNK_BYTES = 1 << 16, SCALE_BYTE = 0x3c, PAIR_BYTES = 4 };

/* --- formats --------------------------------------------------------------------------------
 */

static const struct {
    const char *name;
    enum store store;
} stores[] = {
    {"bf16", STORE_BF16},     {"fp16", STORE_FP16},
    {"f16", STORE_FP16},      {"fp8", STORE_FP8},
    {"fp8_e4m3", STORE_FP8},  {"fp8_per_token_head", STORE_FP8},
    {"int8", STORE_INT8},     {"int8_per_token_head", STORE_INT8},
    {"int4", STORE_INT4},     {"kivi4", STORE_KIVI4},
    {"kivi2", STORE_KIVI2},   {"fp8_ds_mla", STORE_DS_MLA},
    {"fp8_index", STORE_FP8},
};
enum { N_STORES = sizeof stores / sizeof *stores };

static bool store_of(const char *name, enum store *out)
{
    for (int i = 0; name && i < N_STORES; i++) {
        if (!strcmp(stores[i].name, name)) {
            *out = stores[i].store;
            return true;
        }
    }
    return false;
}

/* The side as the kernels know it; pools are not there yet. `scales` points at itself where an
 * 8-bit row has a scale of its own, so that sizes count it. */
static bool side_of(const struct format *f, uint32_t dim, bool value, struct cache_side *out)
{
    uint32_t groups = f->head_bytes / PAIR_BYTES;

    *out = (struct cache_side){.dim = dim, .scale = 1.0f};
    if (!store_of(f->name, &out->store))
        return false;
    if (store_bits(out->store) == 8 && f->head_bytes)
        out->scales = out;
    if (store_is_kivi(out->store) && !value)
        out->group = f->token_group;
    else if (store_bits(out->store) < 8)
        out->group = groups && dim % groups == 0 ? dim / groups : 0;
    return true;
}

void paged_view(const struct paged_in *in, struct cache_view *c)
{
    const struct cache_row *r = in->row;
    uint32_t page = in->page_tokens;

    *c = (struct cache_view){
        .sequences = in->sequences, .heads = r->stored_heads, .ragged = r->keep.ragged};
    (void)side_of(&r->k_format, r->k_dim, false, &c->k);
    (void)side_of(&r->v_format, r->v_dim, true, &c->v);
    if (r->stream == STREAM_LATENT || r->stream == STREAM_INDEX) {
        c->k.rope = r->rope_dim;
        c->v = (struct cache_side){.store = STORE_BF16};
    }
    if (store_is_kivi(c->k.store) && c->k.group) {
        c->residual = r->k_format.residual_tokens;
        page = (page + c->k.group - 1) / c->k.group * c->k.group;
    }
    c->page_tokens = page;
    c->max_pages = (in->room + page - 1) / page;
}

static const char *refuse_latent(const struct paged_in *in)
{
    struct cache_side side;
    struct cache_view c;

    if (!side_of(&in->row->k_format, in->row->k_dim, false, &side))
        return "no kernel has this storage format";
    paged_view(in, &c);
    return cache_check_latent(&c);
}

const char *paged_refuses(const struct cache_row *row)
{
    struct paged_in in = {.row = row, .sequences = 1, .room = 1, .page_tokens = 1};
    struct cache_side side;
    struct cache_view c;

    switch (row->stream) {
    case STREAM_KV: break;
    case STREAM_LATENT:
    case STREAM_INDEX: return refuse_latent(&in);
    case STREAM_STATE: return "states have no rows";
    }
    if (row->k_narrow_dim)
        return "no kernel reads keys of two widths";
    if (!side_of(&row->k_format, row->k_dim, false, &side) ||
        !side_of(&row->v_format, row->v_dim, true, &side))
        return "no kernel has this storage format";
    paged_view(&in, &c);
    if (store_is_kivi(c.k.store) != store_is_kivi(c.v.store))
        return "the kernels have KIVI for K and V together only";
    if (store_is_kivi(c.k.store) && c.ragged)
        return "ragged rows of KIVI cannot be packed";
    return cache_check(&c);
}

/* --- memory ---------------------------------------------------------------------------------
 */

static uint64_t pages_of(const struct cache_view *c)
{
    return (uint64_t)c->sequences * (c->ragged ? c->heads : 1) * c->max_pages;
}

uint64_t paged_bytes(const struct paged_in *in)
{
    struct cache_view c;
    uint64_t sum = 0;

    paged_view(in, &c);
    for (int value = 0; value < 2; value++)
        sum += cache_code_bytes(&c, value, pages_of(&c)) +
               cache_scale_bytes(&c, value, pages_of(&c)) + cache_full_bytes(&c, value);
    return sum + pages_of(&c) * sizeof(uint32_t);
}

/* Random bytes without bit 6: as 16-bit floats and as fp8 they are below 2 in size. */
static enum device_status fill(struct device *d, struct arena *a, struct rng *rng, void *to,
                               uint64_t bytes)
{
    uint64_t chunk = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
    uint8_t *host = arena_alloc(a, chunk + 8, 1);
    enum device_status s = DEVICE_OK;

    for (uint64_t i = 0; i < chunk; i += 8) {
        uint64_t x = rng_next(rng) & UINT64_C(0xbfbfbfbfbfbfbfbf);
        memcpy(host + i, &x, 8);
    }
    for (uint64_t at = 0; at < bytes && s == DEVICE_OK; at += chunk)
        s = device_upload(d, (char *)to + at, host, bytes - at < chunk ? bytes - at : chunk);
    return s;
}

static enum device_status pool(struct device *d, enum tag tag, uint64_t bytes, void **out)
{
    *out = NULL;
    return bytes ? device_alloc(d, bytes, tag, out) : DEVICE_OK;
}

static enum device_status open_side(struct device *d, struct arena *a, struct rng *rng,
                                    struct paged *p, bool value)
{
    struct cache_side *side = value ? &p->view.v : &p->view.k;
    uint64_t codes = cache_code_bytes(&p->view, value, p->pages);
    uint64_t scales = cache_scale_bytes(&p->view, value, p->pages);
    uint64_t full = cache_full_bytes(&p->view, value);
    enum tag tag = value ? TAG_V : TAG_K;
    enum device_status s = pool(d, tag, codes, &side->codes);

    if (s == DEVICE_OK)
        s = pool(d, tag, scales, &side->scales);
    if (s == DEVICE_OK)
        s = pool(d, tag, full, &side->full);
    if (s == DEVICE_OK)
        s = fill(d, a, rng, side->codes, codes);
    if (s == DEVICE_OK && scales)
        s = device_fill(d, side->scales, SCALE_BYTE, scales);
    if (s == DEVICE_OK && full)
        s = fill(d, a, rng, side->full, full);
    return s;
}

enum device_status paged_put(struct device *d, enum tag tag, const void *from, uint64_t bytes,
                             void *out)
{
    void *p = NULL;
    enum device_status s = device_alloc(d, bytes, tag, &p);

    if (s == DEVICE_OK)
        s = device_upload(d, p, from, bytes);
    memcpy(out, &p, sizeof p);
    return s;
}

enum device_status paged_random(struct device *d, struct arena *a, struct rng *rng,
                                uint64_t elements, void *out)
{
    void *p = NULL;
    enum device_status s = device_alloc(d, 2 * elements, TAG_ACTIVATION, &p);

    if (s == DEVICE_OK)
        s = fill(d, a, rng, p, 2 * elements);
    memcpy(out, &p, sizeof p);
    return s;
}

/* Pages in random order, so that no kernel can do without the table. */
static enum device_status tables(struct device *d, struct arena *a, struct rng *rng,
                                 struct paged *p)
{
    uint32_t *table = ARENA_NEW(a, uint32_t, p->pages);
    enum device_status s;

    for (uint32_t i = 0; i < p->pages; i++) {
        uint32_t j = (uint32_t)rng_below(rng, i + 1);
        table[i] = table[j];
        table[j] = i;
    }
    s = paged_put(d, TAG_TABLES, table, p->pages * sizeof *table, &p->view.table);
    p->lists = p->view.sequences * (p->view.ragged ? p->view.heads : 1);
    p->lengths = ARENA_NEW(a, uint32_t, p->lists);
    if (s == DEVICE_OK)
        s = paged_put(d, TAG_TABLES, p->lengths, p->lists * sizeof *p->lengths,
                      &p->view.lengths);
    return s;
}

enum device_status paged_open(struct device *d, struct arena *a, const struct paged_in *in,
                              struct rng *rng, struct paged *out)
{
    enum device_status s;

    *out = (struct paged){.lists = 0};
    paged_view(in, &out->view);
    out->pages = pages_of(&out->view);
    s = open_side(d, a, rng, out, false);
    if (s == DEVICE_OK)
        s = open_side(d, a, rng, out, true);
    return s == DEVICE_OK ? tables(d, a, rng, out) : s;
}

enum device_status paged_lengths(struct device *d, struct paged *p, uint32_t tokens,
                                 struct rng *rng)
{
    const struct cache_view *c = &p->view;
    uint32_t room = c->max_pages * c->page_tokens;
    uint32_t apart = tokens < room - tokens ? tokens : room - tokens;

    for (uint32_t i = 0; i < p->lists; i++)
        p->lengths[i] = tokens;
    for (uint32_t i = 0; c->ragged && i + 1 < p->lists; i += 2) {
        uint32_t by = (uint32_t)rng_below(rng, (uint64_t)apart / 2 + 1);
        if (i / c->heads != (i + 1) / c->heads)
            continue;
        p->lengths[i] -= by;
        p->lengths[i + 1] += by;
    }
    return device_upload(d, (void *)(uintptr_t)c->lengths, p->lengths,
                         p->lists * sizeof *p->lengths);
}
