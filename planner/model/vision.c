/* Counting vision towers: sums of matrices with their biases, written out tower by tower. */
#include "planner/model/vision.h"

#include <string.h>

#include "planner/base/ck.h"
#include "planner/base/unit.h"

enum { SIDE_MAX = 1 << 24 };

/* A whole number of the config; `fallback` where the key is absent, 0 where it is no number. */
static uint64_t number(const struct doc_node *v, const char *key, uint64_t fallback)
{
    const struct doc_node *n = doc_get(v, key);
    uint64_t out = 0;

    if (!n || doc_is_null(n))
        return fallback;
    return n->kind == DOC_SCALAR && unit_parse_u64(n->text, &out) == UNIT_OK && out < SIDE_MAX
               ? out
               : 0;
}

static uint64_t linear(uint64_t in, uint64_t out)
{
    return in * out + out;
}

/* A layer norm with weight and bias. */
static uint64_t norm(uint64_t width)
{
    return 2 * width;
}

/* Two norms, q, k, v and output projections, a two-matrix MLP, all with biases. */
static uint64_t block(uint64_t width, uint64_t inner)
{
    return 2 * norm(width) + 4 * linear(width, width) + linear(width, inner) +
           linear(inner, width);
}

/* A square of neighbouring patches becomes one token: norm, then two matrices. */
static uint64_t merger(uint64_t width, uint64_t square, uint64_t out, bool norm_after)
{
    uint64_t joined = width * square;

    return norm(norm_after ? joined : width) + linear(joined, joined) + linear(joined, out);
}

static uint64_t qwen3(const struct doc_node *v, uint64_t hidden)
{
    const struct doc_node *deep = doc_get(v, "deepstack_visual_indexes");
    uint64_t width = number(v, "hidden_size", 0), inner = number(v, "intermediate_size", 0);
    uint64_t depth = number(v, "depth", 0), side = number(v, "patch_size", 16);
    uint64_t merge = number(v, "spatial_merge_size", 2),
             out = number(v, "out_hidden_size", hidden);
    uint64_t patch =
        number(v, "in_channels", 3) * number(v, "temporal_patch_size", 2) * side * side;
    uint64_t extra = deep && deep->kind == DOC_LIST ? deep->n : 0;

    if (!width || !inner || !depth)
        return 0;
    return linear(patch, width) + number(v, "num_position_embeddings", 2304) * width +
           depth * block(width, inner) + merger(width, merge * merge, out, false) +
           extra * merger(width, merge * merge, out, true);
}

static uint64_t siglip(const struct doc_node *v, uint64_t hidden)
{
    uint64_t width = number(v, "hidden_size", 0), inner = number(v, "intermediate_size", 0);
    uint64_t depth = number(v, "num_hidden_layers", 0), side = number(v, "patch_size", 14);
    uint64_t across = side ? number(v, "image_size", 896) / side : 0;

    if (!width || !inner || !depth || !across)
        return 0;
    return linear(3 * side * side, width) + across * across * width +
           depth * block(width, inner) + norm(width) + width * hidden +
           width; /* projection without a bias, its RMS norm */
}

static uint64_t llama4(const struct doc_node *v, uint64_t hidden)
{
    uint64_t width = number(v, "hidden_size", 0), inner = number(v, "intermediate_size", 0);
    uint64_t depth = number(v, "num_hidden_layers", 0), side = number(v, "patch_size", 14);
    uint64_t across = side ? number(v, "image_size", 336) / side : 0;
    uint64_t in = number(v, "projector_input_dim", 4096),
             out = number(v, "projector_output_dim", 4096);

    if (!width || !inner || !depth || !across)
        return 0;
    return 3 * side * side * width + width + (across * across + 1) * width + 2 * norm(width) +
           depth * block(width, inner) + inner * in + in * out +
           number(v, "vision_output_dim", 4096) * hidden;
}

uint64_t vision_params(const struct doc_node *vision, const char *model_type, uint32_t hidden)
{
    static const struct {
        const char
            *prefix; /* of the tower's type, or of the model's where the tower has none */
        uint64_t (*count)(const struct doc_node *v, uint64_t hidden);
    } towers[] = {
        {"qwen3_vl", qwen3}, {"qwen3_5", qwen3}, {"siglip_vision", siglip},
        {"gemma3_", siglip}, {"llama4", llama4},
    };
    const struct doc_node *own = doc_get(vision, "model_type");
    const char *type = own && own->kind == DOC_SCALAR ? own->text : model_type;

    for (size_t i = 0; type && i < sizeof towers / sizeof *towers; i++)
        if (!strncmp(type, towers[i].prefix, strlen(towers[i].prefix)))
            return towers[i].count(vision, hidden);
    return 0;
}
