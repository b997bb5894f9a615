/* Gemma 3n: four sliding layers to a full one; the last num_kv_shared_layers read the cache of
 * the last earlier layer of their kind but keep their own, unused K/V weights; AltUp, Laurel
 * and per-layer embeddings. Parameters of the parts, h = hidden size: Laurel 2*h*rank + h;
 * AltUp with n streams h + n^2 + n^3 + h*n + h; inputs of width w a layer 2*h*w + h; outside
 * 2*(n-1)*h*h projections between streams and h*layers*w + w. */
#include "planner/model/family.h"

enum { PERIOD = 5 };

static void set_parts(struct config *c, struct model *m)
{
    uint64_t h = m->hidden, n = config_u32(c, "altup_num_inputs", 4),
             rank = config_u32(c, "laurel_rank", 64);
    uint64_t w = config_u32(c, "hidden_size_per_layer_input", 256);
    uint64_t rows = config_u32(c, "vocab_size_per_layer_input", 262144);

    for (uint32_t i = 0; i < m->n_layers; i++) {
        m->layers[i].norms = 4 + 4; /* Laurel, router, corrected scale, per-layer input */
        m->layers[i].matrix_params = 2 * h * rank + h * n + 2 * h * w;
        m->layers[i].vector_params = n * n + n * n * n;
    }
    m->embed_params_extra = rows * m->n_layers * w;
    m->matrix_params_extra = h * m->n_layers * w + 2 * (n ? n - 1 : 0) * h * h;
    m->vector_params_extra = w;
    m->logit_cap = config_cap(c, "final_logit_softcapping", 30);
    m->keeps_unused_kv = true;
}

/* One width for all layers, or a list of one a layer. */
static void set_widths(struct config *c, struct model *m)
{
    const struct doc_node *list = config_find(c, "intermediate_size");
    const struct doc_node *n = list && list->kind == DOC_LIST ? list->first : NULL;

    for (uint32_t i = 0; i < m->n_layers; i++) {
        uint32_t width = list ? 0 : 16384;

        c->ok = doc_u32(n ? n : list, 0, UINT32_MAX, c->d, &width) && c->ok;
        m->layers[i].norms = 2;
        m->layers[i].ffn = (struct ffn){.intermediate = width, .gated = true};
        n = n ? n->next : NULL;
    }
}

static void read(struct config *c, struct model *m)
{
    static const struct config_default defaults[] = {{"num_hidden_layers", 35},
                                                     {"hidden_size", 2048},
                                                     {"vocab_size", 262400},
                                                     {"num_attention_heads", 8},
                                                     {"num_key_value_heads", 2},
                                                     {"head_dim", 256},
                                                     {NULL, 0}};

    c->defaults = defaults;
    m->tied = true;
    if (!family_read_size(c, m))
        return;
    family_read_attention(c, m);
    set_widths(c, m);
    set_parts(c, m);
    family_set_qk_norm(m, QK_NORM_HEAD);
    family_read_windows(c, m, config_u32(c, "sliding_window", 512), PERIOD);
    family_share_last(c, m, config_u32(c, "num_kv_shared_layers", 15));
    family_read_vision(c, m);
}

static const char *const types[] = {"gemma3n", "gemma3n_text", NULL};

const struct family family_gemma3n = {
    .name = "gemma3n",
    .model_types = types,
    .summary = "Gemma 3n E2B and E4B",
    .source =
        "huggingface/transformers src/transformers/models/gemma3n; google-deepmind/gemma@7691fd47",
    .read = read,
};
