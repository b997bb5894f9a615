/* Qwen 1.5, 2, 2.5 and their mixtures and vision models: biases on q, k and v. `sliding_window`
 * counts only with use_sliding_window, and then from layer max_window_layers on. MiMo-7B is of
 * the same shape. */
#include "planner/model/family.h"

#include <string.h>

static void set_windows(struct config *c, struct model *m)
{
    uint32_t window = config_u32(c, "sliding_window", 4096);
    uint32_t first = config_u32(c, "max_window_layers", 28);

    if (!config_bool(c, "use_sliding_window", false))
        return;
    if (config_has(c, "layer_types")) {
        family_read_windows(c, m, window, 1);
        return;
    }
    for (uint32_t i = first; i < m->n_layers; i++) {
        m->layers[i].attn.mixer = MIXER_SLIDING;
        m->layers[i].attn.window_tokens = window;
    }
}

static void set_experts(struct config *c, struct model *m)
{
    uint32_t step = config_u32(c, "decoder_sparse_step", 1);

    family_set_moe(m, &(struct family_moe){
                          .experts = config_u32(c, "num_experts", 60),
                          .top_k = config_u32(c, "num_experts_per_tok", 4),
                          .intermediate = config_need(c, "moe_intermediate_size"),
                          .shared = config_u32(c, "shared_expert_intermediate_size", 5632),
                          .step = step,
                          .offset = step ? step - 1 : 0,
                          .shared_gate = true});
}

static void read(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    family_set_bias(m, config_bool(c, "qkv_bias|attention_bias", true) ? "qkv" : "");
    if (strstr(m->model_type, "moe"))
        set_experts(c, m);
    set_windows(c, m);
    family_read_vision(c, m);
}

static const char *const types[] = {"qwen2",         "qwen2_moe",  "qwen2_vl",
                                    "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text",
                                    "mimo",          NULL};

const struct family family_qwen2 = {
    .name = "qwen2",
    .model_types = types,
    .summary = "Qwen 1.5, 2 and 2.5, dense, mixture and VL; MiMo-7B",
    .source =
        "huggingface/transformers src/transformers/models/qwen2, qwen2_moe (use_sliding_window false)",
    .read = read,
};
