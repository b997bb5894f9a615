/* Cells: what -c, -np, -b, -ub and --kv-unified come to, by period of the source. */
#include <string.h>

#include "planner/base/unit.h"
#include "planner/engine/llamacpp/llamacpp.h"

enum { BATCH = 2048, UBATCH = 512, PAD = 256, PAD_NO_FLASH = 32 };

/* --- versions -------------------------------------------------------------------------------
 */

static const struct {
    uint64_t month; /* year * 12 + month - 1, the first with these rules */
    enum lcpp_rules rules;
} periods[] = {
    {2026 * 12 + 0, LCPP_LATENT_ONLY}, {2025 * 12 + 10, LCPP_PAD_256},
    {2025 * 12 + 7, LCPP_STREAMS},     {2025 * 12 + 5, LCPP_SWA_UBATCH},
    {2025 * 12 + 4, LCPP_SWA_BATCH},   {0, LCPP_ONE_POOL},
};

/* The number in s[0..n), which must be digits only. */
static bool digits(const char *s, size_t n, uint64_t *out)
{
    char text[8];

    if (strspn(s, "0123456789") != n || n >= sizeof text)
        return false;
    memcpy(text, s, n);
    text[n] = '\0';
    return unit_parse_u64(text, out) == UNIT_OK;
}

bool lcpp_rules_of(const char *version, enum lcpp_rules *out)
{
    uint64_t year, month, day = 1;
    size_t i = 0, n = version ? strlen(version) : 0;
    bool ok = (n == 7 || n == 10) && digits(version, 4, &year) && version[4] == '-' &&
              digits(version + 5, 2, &month) && month >= 1 && month <= 12;

    *out = periods[0].rules;
    if (!n)
        return true;
    if (ok && n == 10)
        ok = version[7] == '-' && digits(version + 8, 2, &day) && day >= 1 && day <= 31;
    if (!ok)
        return false;
    while (year * 12 + month - 1 < periods[i].month)
        i++;
    *out = periods[i].rules;
    return true;
}

/* --- cells ----------------------------------------------------------------------------------
 */

static uint64_t padded(uint64_t n, uint64_t to, struct ck *ck)
{
    return ck_mul(ck, ck_ceil_div(n, to), to);
}

/* What one stream has: the share of a sequence, or everything. */
static void divide(struct lcpp_context *c, struct ck *ck)
{
    uint64_t share;

    if (c->rules < LCPP_STREAMS || c->unified) {
        c->streams = 1;
        c->n_ctx = c->n_ctx_seq = padded(c->n_ctx, c->pad, ck);
        return;
    }
    c->streams = c->n_seq;
    if (c->rules < LCPP_PAD_256)
        share = ck_ceil_div(c->n_ctx, c->n_seq);
    else
        share = padded(c->n_ctx, c->pad, ck) / c->n_seq;
    c->n_ctx_seq = padded(u64_max(share, 1), c->pad, ck);
    c->n_ctx = ck_mul(ck, c->n_ctx_seq, c->n_seq);
}

struct lcpp_context lcpp_context_of(enum lcpp_rules rules, const struct lcpp_ask *ask,
                                    struct ck *ck)
{
    struct lcpp_context c = {
        .rules = rules,
        .n_ctx = u64_max(ask->n_ctx, 1),
        .n_seq = u64_max(ask->n_seq, 1),
        .unified = ask->unified,
        .flash_attn = ask->flash_attn,
        .swa_full = ask->swa_full || rules < LCPP_SWA_BATCH,
        .pad = rules >= LCPP_PAD_256 || ask->flash_attn ? PAD : PAD_NO_FLASH,
    };

    c.n_batch = u64_min(c.n_ctx, ask->n_batch ? ask->n_batch : BATCH); /* before the padding */
    c.n_ubatch = u64_min(c.n_batch, ask->n_ubatch ? ask->n_ubatch : UBATCH);
    divide(&c, ck);
    return c;
}

uint64_t lcpp_slots(const struct lcpp_context *c, uint64_t tokens)
{
    if (tokens > c->n_ctx_seq)
        return 0;
    if (c->streams > 1 || !tokens)
        return c->n_seq;
    return u64_min(c->n_seq, c->n_ctx / tokens);
}

uint64_t lcpp_cells(const struct lcpp_context *c, uint64_t window_tokens, struct ck *ck)
{
    uint64_t seen, room;

    if (!window_tokens || c->swa_full)
        return c->n_ctx_seq;
    seen = c->unified || c->rules < LCPP_STREAMS ? ck_mul(ck, window_tokens, c->n_seq)
                                                 : window_tokens;
    room = ck_add(ck, seen, c->rules == LCPP_SWA_BATCH ? c->n_batch : c->n_ubatch);
    if (c->rules >= LCPP_PAD_256)
        return padded(u64_min(c->n_ctx_seq, room), c->pad, ck);
    return u64_min(c->n_ctx_seq, padded(room, c->pad, ck));
}
