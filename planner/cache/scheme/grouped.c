/* grouped - integer codes in groups along the head, each group with a scale and a zero
 * point. No one engine defines these: the group is a parameter, and what it costs follows
 * from it. */
#include <string.h>

#include "planner/cache/storage.h"

struct params {
    uint64_t group, scale_bytes, zero_bytes;
};

static const struct field fields[] = {
    FIELD(struct params, group, "group", F_U64, 0, 65536, "64",
          "elements of a head under one scale; 0 = the whole head"),
    FIELD(struct params, scale_bytes, "scale_bytes", F_U64, 0, 8, "2", "bytes of a scale"),
    FIELD(struct params, zero_bytes, "zero_bytes", F_U64, 0, 8, "2", "bytes of a zero point"),
};

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    const struct params *p = use->params;
    uint32_t bits = strcmp(use->name, "int4") ? 8 : 4;

    (void)lay;
    *out = storage_grouped(use->name, bits, (uint32_t)p->group,
                           (uint32_t)(p->scale_bytes + p->zero_bytes), storage_dim(r, value));
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"int4", "int8_grouped", NULL};

const struct scheme scheme_grouped = {
    .names = names,
    .summary = "integer codes with a scale and a zero point a group",
    .source = "arithmetic of the group; no engine's layout",
    .axis = AXIS_STORAGE,
    .fields = fields,
    .nfields = sizeof fields / sizeof *fields,
    .params_size = sizeof(struct params),
    .apply = apply,
    .confidence = "derived",
};
