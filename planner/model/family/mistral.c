/* Mistral and Ministral: a window on every layer in v0.1 only; later configs say null. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"num_key_value_heads", 8}, {NULL, 0}};
    bool named = doc_get(c->text, "sliding_window") != NULL;

    c->defaults = defaults;
    if (!family_read_llama_like(c, m))
        return;
    family_read_windows(c, m, config_u32(c, "sliding_window", named ? 0 : 4096), 0);
    if (!named)
        config_note(c, NULL, DIAG_NOTE,
                    "no sliding_window in the config: the class's 4096 is assumed");
    family_read_vision(c, m);
}

static const char *const types[] = {"mistral",  "ministral", "ministral3",
                                    "mistral3", "pixtral",   NULL};

const struct family family_mistral = {
    .name = "mistral",
    .model_types = types,
    .summary = "Mistral, Mistral-Nemo, Mistral-Small, Ministral",
    .source =
        "huggingface/transformers src/transformers/models/mistral (sliding_window 4096 by default)",
    .read = read,
};
