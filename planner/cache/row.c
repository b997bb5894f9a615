/* Tokens and bytes of one row: what its store holds after a prompt and a decode, and what
 * queries see of it. The retention rules are the schemes'; this file applies windows,
 * selections and formats to what they say. These functions run millions of times a second:
 * no allocation. */
#include "planner/cache/layout.h"

static uint64_t clip(uint64_t tokens, uint64_t limit)
{
    return limit ? u64_min(tokens, limit) : tokens;
}

static bool stores_tokens(const struct cache_row *r)
{
    return r->readers && r->stream != STREAM_STATE;
}

/* What the retention rule leaves, windows aside. */
static uint64_t kept_tokens(const struct cache_row *r, uint64_t n, uint64_t decoded)
{
    const struct keep *k = &r->keep;

    if (decoded && k->decode)
        return k->decode(k, n, decoded);
    return (k->prompt && n ? k->prompt(k, n) : n) + decoded;
}

uint64_t row_stored_tokens(const struct cache_row *r, uint64_t n, uint64_t decoded)
{
    if (!stores_tokens(r))
        return 0;
    return clip(kept_tokens(r, n, decoded), r->store_window_tokens);
}

uint64_t row_peak_tokens(const struct cache_row *r, uint64_t n, uint64_t decoded)
{
    if (!stores_tokens(r))
        return 0;
    if (!r->keep.peak)
        return row_stored_tokens(r, n, decoded);
    return clip(r->keep.peak(&r->keep, n, decoded), r->store_window_tokens);
}

uint64_t row_running_tokens(const struct cache_row *r, uint64_t n, uint64_t decoded)
{
    uint64_t inside;

    if (!stores_tokens(r) || !r->keep.peak || !decoded)
        return row_stored_tokens(r, n, decoded);
    inside = u64_max(kept_tokens(r, n, decoded), kept_tokens(r, n, decoded - 1) + 1);
    return clip(inside, r->store_window_tokens);
}

uint64_t row_unpruned_tokens(const struct cache_row *r, uint64_t n)
{
    return stores_tokens(r) ? clip(n, r->store_window_tokens) : 0;
}

/* What a step reads of `keys` it could see: all, the best so many, or the newest page, which
 * may be part full, and the best others. source: mit-han-lab/Quest@01c1623 controller.py */
static uint64_t selected(const struct cache_row *reader, uint64_t keys)
{
    uint64_t page = reader->select_page_tokens, most = reader->select_tokens;

    if (!page || !most)
        return clip(keys, most);
    if (ck_ceil_div(keys, page) <= most / page)
        return keys;
    return most - page + (keys - 1) % page + 1;
}

uint64_t row_attended_tokens(const struct cache_row *reader, const struct cache_row *source,
                             uint64_t n, uint64_t decoded)
{
    uint64_t own = reader->diagonal_masked ? 0 : 1;
    uint64_t keys = row_stored_tokens(source, n, decoded) + own;

    if (reader->mixer == MIXER_CHUNKED && reader->window_tokens)
        keys = u64_min(keys, (n + decoded) % reader->window_tokens + own);
    keys = clip(keys, reader->window_tokens);
    return selected(reader, keys);
}

/* ThinK: tokens of the prompt but the last few keep fewer key channels; later ones keep all. */
static uint64_t narrow_key_bytes(const struct cache_row *r, uint64_t prompt, uint64_t tokens,
                                 struct ck *ck)
{
    uint64_t old = u64_min(tokens, prompt);
    uint64_t narrow = old > r->k_wide_tokens ? old - r->k_wide_tokens : 0;
    uint64_t a =
        format_bytes(&r->k_format, prompt, narrow, r->stored_heads, r->k_narrow_dim, ck);
    uint64_t b =
        format_bytes(&r->k_format, prompt, tokens - narrow, r->stored_heads, r->k_dim, ck);

    return ck_add(ck, a, b);
}

uint64_t row_bytes(const struct cache_row *r, uint64_t prompt, uint64_t tokens, struct ck *ck)
{
    uint64_t k, v;

    if (r->stream == STREAM_STATE)
        return 0;
    if (r->k_narrow_dim && r->k_dim)
        k = narrow_key_bytes(r, prompt, tokens, ck);
    else
        k = format_bytes(&r->k_format, prompt, tokens, r->stored_heads, r->k_dim, ck);
    v = format_bytes(&r->v_format, prompt, tokens, r->stored_heads, r->v_dim, ck);
    return ck_add(ck, k, v);
}

uint64_t row_state_bytes(const struct cache_row *r, struct ck *ck)
{
    if (r->stream != STREAM_STATE)
        return 0;
    uint64_t conv = ck_mul(ck, r->conv_elems, r->conv_elem_bytes);
    return ck_add(ck, conv, ck_mul(ck, r->state_elems, r->state_elem_bytes));
}

const char *stream_name(enum stream s)
{
    switch (s) {
    case STREAM_KV: return "kv";
    case STREAM_LATENT: return "latent";
    case STREAM_INDEX: return "index";
    case STREAM_STATE: return "state";
    }
    return "?";
}
