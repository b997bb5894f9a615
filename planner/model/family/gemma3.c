/* Gemma 3: five sliding layers to a full one, q/k norms, four norms a layer, tied. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"num_attention_heads", 8},
                                                     {"num_key_value_heads", 4},
                                                     {"head_dim", 256},
                                                     {"vocab_size", 262208},
                                                     {NULL, 0}};
    uint32_t period = config_u32(c, "sliding_window_pattern|_sliding_window_pattern", 6);

    c->defaults = defaults;
    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    family_set_norms(m, 4);
    family_set_qk_norm(m, QK_NORM_HEAD);
    family_read_windows(
        c, m, config_u32(c, "sliding_window|sliding_window_attention_size", 4096), period);
    family_read_vision(c, m);
}

static const char *const types[] = {"gemma3", "gemma3_text", NULL};

const struct family family_gemma3 = {
    .name = "gemma3",
    .model_types = types,
    .summary = "Gemma 3",
    .source =
        "huggingface/transformers src/transformers/models/gemma3 (sliding_window_pattern 6)",
    .read = read,
};
