/* plain - one number an element, at most one scale for a whole tensor: 16 and 32 bits, fp8,
 * int8. */
#include <string.h>

#include "planner/cache/storage.h"

static bool format(const struct scheme_use *use, const struct layout *lay,
                   const struct cache_row *r, bool value, struct format *out)
{
    static const struct {
        const char *name;
        uint32_t bytes;
    } sizes[] = {{"bf16", 2}, {"fp16", 2}, {"f16", 2}, {"fp32", 4}, {"f32", 4}};
    uint32_t bytes = 1;

    (void)lay;
    (void)r;
    (void)value;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (!strcmp(use->name, sizes[i].name))
            bytes = sizes[i].bytes;
    *out = format_plain(use->name, bytes);
    return true;
}

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    return storage_set(use, lay, format, d);
}

static const char *const names[] = {"bf16", "fp16",     "fp32",     "f16",  "f32",
                                    "fp8",  "fp8_e4m3", "fp8_e5m2", "int8", NULL};

const struct scheme scheme_plain = {
    .names = names,
    .summary = "one number an element; 8-bit ones with one scale a tensor",
    .source = "IEEE 754, OCP 8-bit floating point; vLLM kv_cache_interface.py",
    .axis = AXIS_STORAGE,
    .apply = apply,
    .confidence = "primary",
};
