/* LCKV: Llama shapes whose `layer_types` is a string of one entry a layer, the 0-based layer
 * whose K/V the queries read, with an `s` where the layer slides: "0_20_20_21", "0s_1s_2_2". */
#include "planner/model/family.h"

#include <string.h>

/* One entry: digits and an optional 's'; returns the end, or NULL when it is no entry. */
static const char *entry(const char *s, uint32_t *source, bool *slides)
{
    uint64_t v = 0;

    if (*s < '0' || *s > '9')
        return NULL;
    for (; *s >= '0' && *s <= '9' && v < MODEL_LAYERS_MAX; s++)
        v = v * 10 + (uint64_t)(*s - '0');
    *slides = *s == 's';
    s += *slides;
    *source = (uint32_t)v;
    return *s == '_' || *s == 0 ? s : NULL;
}

static void read_map(struct config *c, struct model *m)
{
    const struct doc_node *n = config_find(c, "layer_types");
    uint32_t window = config_u32(c, "sliding_window", 0), i = 0;
    const char *s;

    if (!n || n->kind != DOC_SCALAR)
        return;
    for (s = n->text; *s && i < m->n_layers; i++) {
        struct attention *a = &m->layers[i].attn;
        bool slides = false;

        s = entry(s, &a->kv_source, &slides);
        if (!s) {
            config_error(c, n, "layer_types '%s' is not numbers joined by '_'", n->text);
            return;
        }
        s += *s == '_';
        if (a->kv_source >= m->n_layers) {
            config_error(c, n, "layer_types: layer %u reads layer %u, but the last is %u", i,
                         a->kv_source, m->n_layers - 1);
            a->kv_source = i;
        }
        if (slides && !window)
            config_error(c, n,
                         "layer_types has sliding entries, but there is no sliding_window");
        a->mixer = slides ? MIXER_SLIDING : MIXER_FULL;
        a->window_tokens = slides ? window : 0;
    }
    if (i != m->n_layers || *s)
        config_error(c, n, "layer_types has %s than the %u layers",
                     *s ? "more entries" : "fewer entries", m->n_layers);
}

static void read(struct config *c, struct model *m)
{
    if (!family_read_llama_like(c, m))
        return;
    read_map(c, m);
    m->forward_passes = config_u32(c, "forward_passes", 0);
    m->backward_passes = config_u32(c, "backward_passes", 0);
    m->force_no_diagonal = config_bool(c, "force_nodiag", false);
}

static const char *const types[] = {"lckv-llama", NULL};

const struct family family_lckv = {
    .name = "lckv",
    .model_types = types,
    .summary = "layer-condensed K/V (LCKV) models on Llama shapes",
    .source = "whyNLP/LCKV README and configs; arXiv:2405.10637",
    .read = read,
};
