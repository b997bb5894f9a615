/* kivi - keys quantized a channel in groups of tokens, values a token in groups of channels,
 * each group with a 16-bit scale and minimum. The newest tokens stay in 16 bits: T mod
 * residual of K, min(T, residual) of V. */
#include <string.h>

#include "planner/cache/storage.h"

enum { SCALE_BYTES = 4 }; /* scale and minimum */

struct params {
    uint64_t group, residual;
};

static const struct field fields[] = {
    FIELD(struct params, group, "group", F_U64, 1, 65536, "32",
          "tokens (K) or channels (V) of a group"),
    FIELD(struct params, residual, "residual", F_TOKENS, 1, 0xffffffff, "128",
          "newest tokens in full precision; a multiple of group"),
};

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    const struct params *p = use->params;
    uint32_t bits = strcmp(use->name, "kivi2") ? 4 : 2, group = (uint32_t)p->group;

    (void)lay;
    *out =
        storage_grouped(use->name, bits, group, value ? SCALE_BYTES : 0, storage_dim(r, value));
    out->residual = value ? RESIDUAL_MIN : RESIDUAL_MOD;
    out->residual_tokens = (uint32_t)p->residual;
    if (!value) {
        out->token_group = group;
        out->group_bytes = SCALE_BYTES;
    }
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    const struct params *p = use->params;

    if (p->residual % p->group)
        return diag_add(d, DIAG_INPUT, use->at,
                        "%s: residual %llu is not a multiple of group %llu", use->name,
                        (unsigned long long)p->residual, (unsigned long long)p->group);
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"kivi2", "kivi4", NULL};

const struct scheme scheme_kivi = {
    .names = names,
    .summary = "K by channel, V by token, in 2 or 4 bits; the newest tokens in 16",
    .source = "arXiv:2402.02750; jy-yuan/KIVI@876b4d2 llama_kivi.py, new_pack.py",
    .axis = AXIS_STORAGE,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "primary",
    .caveat = "each decode step of the release copies the packed tensors of a layer",
};
