/* Nemotron-H, Nano 2 and Nemotron-3: each layer is one of Mamba-2, attention, MLP or experts,
 * with one norm. The pattern is a string of M * - E or a list of words. Squared ReLU: two
 * matrices. */
#include "planner/model/family.h"

#include <string.h>

struct kinds {
    struct layer mamba, attention, mlp, moe;
};

static struct kinds read_kinds(struct config *c, const struct model *m)
{
    uint32_t heads = config_need(c, "num_attention_heads");
    uint32_t dim = config_u32(c, "head_dim|attention_head_dim", heads ? m->hidden / heads : 0);
    struct kinds k = {0};

    k.mamba = k.attention = k.mlp = k.moe = (struct layer){.norms = 1};
    k.mamba.state = (struct state){
        .kind = STATE_MAMBA2,
        .heads = config_u32(c, "mamba_num_heads", 128),
        .head_dim = config_u32(c, "mamba_head_dim", 64),
        .state_dim = config_u32(c, "ssm_state_size", 128),
        .groups = config_u32(c, "n_groups|mamba_n_groups", 8),
        .conv_kernel = config_u32(c, "conv_kernel", 4),
        .fp32_state = strcmp(config_text(c, "mamba_ssm_cache_dtype", ""), "float32") == 0,
    };
    k.attention.attn = (struct attention){.mixer = MIXER_FULL,
                                          .heads = heads,
                                          .kv_heads = config_u32(c, "num_key_value_heads", 8),
                                          .k_dim = dim,
                                          .v_dim = dim};
    k.mlp.ffn = (struct ffn){.intermediate = config_u32(c, "intermediate_size", 0),
                             .bias = config_bool(c, "mlp_bias", false)};
    k.moe.ffn = (struct ffn){
        .experts = config_u32(c, "n_routed_experts", 0),
        .top_k = config_u32(c, "num_experts_per_tok", 0),
        .moe_intermediate = config_u32(c, "moe_intermediate_size", 0),
        .shared_intermediate = config_u32(c, "n_shared_experts", 1) *
                               config_u32(c, "moe_shared_expert_intermediate_size", 0),
        .moe_latent = config_u32(c, "moe_latent_size", 0),
        .router_bias = true,
    };
    return k;
}

static const struct layer *by_letter(const struct kinds *k, char letter)
{
    return letter == 'M'   ? &k->mamba
           : letter == '*' ? &k->attention
           : letter == '-' ? &k->mlp
           : letter == 'E' ? &k->moe
                           : NULL;
}

static char letter_of(const struct doc_node *n)
{
    static const char *const words[] = {"mamba", "attention", "mlp", "moe"};

    for (size_t i = 0; i < 4 && n->kind == DOC_SCALAR; i++) {
        if (strcmp(n->text, words[i]) == 0)
            return "M*-E"[i];
    }
    return '?';
}

/* The pattern as letters; NULL after an error. */
static const char *pattern(struct config *c)
{
    const struct doc_node *n = config_find(c, "hybrid_override_pattern|layers_block_type");
    const struct doc_node *item;
    char *s;
    size_t k = 0;

    if (!n || n->kind == DOC_MAP) {
        config_error(c, n,
                     "the config has no hybrid_override_pattern and no layers_block_type");
        return NULL;
    }
    if (n->kind == DOC_SCALAR)
        return n->text;
    s = arena_alloc(c->a, n->n + 1, 1);
    for (item = n->first; item; item = item->next)
        s[k++] = letter_of(item);
    return s;
}

static void set_layers(struct config *c, struct model *m, const char *letters)
{
    struct kinds k = read_kinds(c, m);

    for (uint32_t i = 0; i < m->n_layers; i++) {
        const struct layer *l = by_letter(&k, letters[i]);

        if (l)
            m->layers[i] = *l;
        else
            config_error(c, NULL, "layer %u is '%c' in the pattern; known: M * - E", i,
                         letters[i]);
        m->layers[i].attn.kv_source = i;
        if (l == &k.moe && (!l->ffn.experts || !l->ffn.top_k || !l->ffn.moe_intermediate))
            config_error(
                c, NULL,
                "the pattern has expert layers, but the config has no n_routed_experts, "
                "num_experts_per_tok and moe_intermediate_size");
    }
}

static void read(struct config *c, struct model *m)
{
    struct config_default defaults[] = {{"num_hidden_layers", 0}, {NULL, 0}};
    const char *letters = pattern(c);

    if (!letters)
        return;
    defaults[0].value = (uint32_t)strlen(letters);
    c->defaults = defaults;
    if (family_read_size(c, m)) {
        if (strlen(letters) == m->n_layers)
            set_layers(c, m, letters);
        else
            config_error(c, NULL, "the pattern has %zu layers, num_hidden_layers says %u",
                         strlen(letters), m->n_layers);
    }
    c->defaults = NULL;
}

static const char *const types[] = {"nemotron_h", NULL};

const struct family family_nemotron_h = {
    .name = "nemotron_h",
    .model_types = types,
    .summary = "Nemotron-H, Nemotron Nano 2, Nemotron-3",
    .source =
        "nvidia/Nemotron-H configuration_nemotron_h.py; NVIDIA-NeMo/Megatron-Bridge@067f987d docs/models",
    .read = read,
};
