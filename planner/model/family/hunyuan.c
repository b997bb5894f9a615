/* Hunyuan dense and mixture. Large shares K/V across layers (CLA): layer i (0-based) with i mod
 * factor not 0 has no K/V projections and reads the last layer below that has; a short group is
 * the last. */
#include "planner/model/family.h"

#include <string.h>

/* A number, or a list of one a layer of which the first is taken (they are equal in the known
 * models). */
static uint32_t first_u32(struct config *c, const char *key, uint32_t fallback)
{
    const struct doc_node *n = config_find(c, key);
    uint32_t v = fallback;

    c->ok = doc_u32(n && n->kind == DOC_LIST ? n->first : n, 0, UINT32_MAX, c->d, &v) && c->ok;
    return v;
}

static void set_sharing(struct config *c, struct model *m)
{
    uint32_t factor = config_u32(c, "cla_share_factor", 1);

    if (!config_bool(c, "use_cla", false) || factor < 2)
        return;
    for (uint32_t i = 0; i < m->n_layers; i++)
        m->layers[i].attn.kv_source = i - i % factor;
}

static void read(struct config *c, struct model *m)
{
    uint32_t experts = first_u32(c, "num_experts", 1), width;

    m->tied = true;
    if (!family_read_llama_like(c, m))
        return;
    if (config_bool(c, "use_qk_norm|qk_norm", true))
        family_set_qk_norm(m, QK_NORM_HEAD);
    width = first_u32(c, "moe_intermediate_size", config_u32(c, "intermediate_size", 0));
    if (experts > 1)
        family_set_moe(
            m, &(struct family_moe){.experts = experts,
                                    .top_k = first_u32(c, "moe_topk", 1),
                                    .intermediate = width,
                                    .shared = width * first_u32(c, "num_shared_expert", 1)});
    set_sharing(c, m);
}

static const char *const types[] = {"hunyuan", "hunyuan_v1_dense", "hunyuan_v1_moe", NULL};

const struct family family_hunyuan = {
    .name = "hunyuan",
    .model_types = types,
    .summary = "Hunyuan dense, mixture and Large (cross-layer sharing)",
    .source = "Tencent/Tencent-Hunyuan-Large@cdc37358 modeling_hunyuan.py and config.json",
    .read = read,
};
