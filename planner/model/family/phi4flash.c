/* Phi-4-mini-flash (SambaY). 0-based, L layers: even layers up to L/2 are Mamba-1, odd ones
 * below L/2 slide, L/2 + 1 is the only full attention, later odd layers read its K/V and later
 * even ones are gated memory units. Unverified: no parameter total was checked; the lambdas and
 * sub-norms of differential attention are left out. */
#include "planner/model/family.h"

static struct state mamba(struct config *c, const struct model *m)
{
    return (struct state){.kind = STATE_MAMBA1,
                          .inner = m->hidden * config_u32(c, "mamba_expand", 2),
                          .state_dim = config_u32(c, "mamba_d_state", 16),
                          .conv_kernel = config_u32(c, "mamba_d_conv", 4),
                          .dt_rank = config_u32(c, "mamba_dt_rank", (m->hidden + 15) / 16)};
}

static void read(struct config *c, struct model *m)
{
    struct state s;
    uint32_t half, window;

    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    s = mamba(c, m);
    half = m->n_layers / 2;
    window = config_u32(c, "sliding_window", 512);
    m->norm = NORM_LAYER;
    m->head_bias = config_bool(c, "lm_head_bias", true);
    m->confidence = "unverified";
    family_set_bias(m, "qkvo");
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct layer *l = &m->layers[i];

        if (i % 2 == 0) {
            l->attn = (struct attention){.mixer = MIXER_NONE, .kv_source = i};
            l->state = i <= half ? s : (struct state){.kind = STATE_GMU, .inner = s.inner};
        } else if (i < half) {
            l->attn.mixer = MIXER_SLIDING;
            l->attn.window_tokens = window;
        } else {
            l->attn.kv_source = half + 1;
        }
    }
    if (half % 2 != 0 || half + 1 >= m->n_layers)
        config_error(c, NULL, "phi4flash needs a number of layers that 4 divides, found %u",
                     m->n_layers);
    config_note(c, NULL, DIAG_WARN,
                "phi4flash: the parameter count is not verified against a checkpoint");
}

static const char *const types[] = {"phi4flash", NULL};

const struct family family_phi4flash = {
    .name = "phi4flash",
    .model_types = types,
    .summary = "Phi-4-mini-flash: Mamba, sliding and one full attention, gated memory units",
    .source =
        "microsoft/ArchScale@c2ec1d69 phi4miniflash_d32; vllm-project/vllm@03356f8c models/phi4flash.py",
    .read = read,
};
