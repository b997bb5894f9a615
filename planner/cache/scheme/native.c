/* native - the sharing a model ships with, said explicitly: Gemma 3n and 4, Hunyuan,
 * Phi-4-mini-flash, released LCKV checkpoints. The layout starts that way, so there is
 * nothing to edit. */
#include "planner/cache/scheme.h"

static bool apply(const struct scheme_use *use, struct layout *lay, struct diag *d)
{
    if (layout_kv_layers(lay) == layout_attention_layers(lay))
        diag_add(d, DIAG_NOTE, use->at, "this model shares no K/V: every layer keeps its own");
    lay->sharing = use->name;
    return true;
}

static const char *const names[] = {"native", NULL};

const struct scheme scheme_native = {
    .names = names,
    .summary = "the model's own sharing",
    .source = "the model's configuration",
    .axis = AXIS_SHARING,
    .apply = apply,
    .confidence = "primary",
};
