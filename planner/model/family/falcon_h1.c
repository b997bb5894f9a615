/* Falcon-H1: attention and Mamba-2 side by side in every layer. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    struct state s = {.kind = STATE_MAMBA2};

    if (!family_read_llama_like(c, m))
        return;
    s.heads = config_u32(c, "mamba_n_heads", 128);
    s.head_dim = config_u32(c, "mamba_d_head", 0);
    if (s.head_dim == 0 && s.heads > 0)
        s.head_dim =
            config_u32(c, "mamba_d_ssm", m->hidden * config_u32(c, "mamba_expand", 2)) /
            s.heads;
    s.state_dim = config_u32(c, "mamba_d_state", 256);
    s.groups = config_u32(c, "mamba_n_groups", 1);
    s.conv_kernel = config_u32(c, "mamba_d_conv", 4);
    s.no_gate_norm = !config_bool(c, "mamba_rms_norm", false);
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].state = s;
}

static const char *const types[] = {"falcon_h1", NULL};

const struct family family_falcon_h1 = {
    .name = "falcon_h1",
    .model_types = types,
    .summary = "Falcon-H1: attention and Mamba-2 in parallel",
    .source = "huggingface/transformers src/transformers/models/falcon_h1",
    .read = read,
};
