/* Reading and writing `quantization` of the inline form: a format, the parts it covers, and
 * layers that differ. */
#include "planner/model/inline_quant.h"

#include <inttypes.h>
#include <string.h>

#include "planner/doc/bind.h"
#include "planner/model/weights.h"

enum {
    PARTS_LINEAR = 1u << PART_Q | 1u << PART_K | 1u << PART_V | 1u << PART_O |
                   1u << PART_LATENT | 1u << PART_INDEXER | 1u << PART_STATE | 1u << PART_MLP |
                   1u << PART_EXPERT | 1u << PART_SHARED
};

struct map {
    const char *format, *method, *kv_format, *embed, *head;
    const struct doc_node *parts, *layers;
};

struct run {
    uint64_t first, last;
    const struct doc_node *parts;
};

static const struct field fields[] = {
    {.key = "format",
     .type = F_TEXT,
     .offset = offsetof(struct map, format),
     .required = true,
     .help = "weight format of the parts: fp8, fp8_block, awq, mxfp4, ..."},
    FIELD(struct map, method, "method", F_TEXT, 0, 0, NULL,
          "who quantized: fp8, awq, modelopt, ..."),
    FIELD(struct map, kv_format, "kv_format", F_TEXT, 0, 0, NULL,
          "cache format the checkpoint asks for"),
    FIELD(struct map, embed, "embed_format", F_TEXT, 0, 0, NULL,
          "format of the embedding, where it is another one"),
    FIELD(struct map, head, "head_format", F_TEXT, 0, 0, NULL,
          "format of the head, where it is another one"),
    FIELD(struct map, parts, "parts", F_NODE, 0, 0, NULL,
          "parts it covers; default: all projections"),
    FIELD(struct map, layers, "layers", F_NODE, 0, 0, NULL,
          "layers with other parts: [{first, last, parts}]"),
};

static const struct field run_fields[] = {
    FIELD_REQUIRED(struct run, first, "first", F_U64, 1, MODEL_LAYERS_MAX,
                   "first layer, 1-based"),
    FIELD_REQUIRED(struct run, last, "last", F_U64, 1, MODEL_LAYERS_MAX, "last layer"),
    FIELD_REQUIRED(struct run, parts, "parts", F_NODE, 0, 0, "parts that are quantized there"),
};

static bool part_find(const char *name, enum part *out)
{
    for (int p = 0; p < N_PARTS; p++) {
        if (strcmp(part_name((enum part)p), name) == 0) {
            *out = (enum part)p;
            return true;
        }
    }
    return false;
}

static bool read_parts(const struct doc_node *n, struct diag *d, uint32_t *out)
{
    uint32_t mask = 0;

    if (doc_is_null(n))
        return true;
    if (n->kind != DOC_LIST)
        return diag_add(d, DIAG_INPUT, n->at,
                        "'parts' in quantization must be a list of parts");
    for (const struct doc_node *e = n->first; e; e = e->next) {
        enum part p;

        if (e->kind != DOC_SCALAR || !part_find(e->text, &p))
            return diag_add(d, DIAG_INPUT, e->at, "'%s' is no part of a model",
                            e->kind == DOC_SCALAR ? e->text : "a map or list");
        mask |= 1u << p;
    }
    *out = mask;
    return true;
}

static bool read_runs(struct arena *a, const struct doc_node *n, struct diag *d,
                      struct model *m)
{
    uint32_t *masks;

    if (doc_is_null(n))
        return true;
    if (n->kind != DOC_LIST)
        return diag_add(d, DIAG_INPUT, n->at, "'layers' in quantization must be a list");
    masks = ARENA_NEW(a, uint32_t, m->n_layers);
    for (uint32_t i = 0; i < m->n_layers; i++)
        masks[i] = m->quant.parts;
    for (const struct doc_node *e = n->first; e; e = e->next) {
        struct run r = {0};
        uint32_t mask = 0;

        if (!bind_map(a, e, "quantization.layers", run_fields,
                      sizeof run_fields / sizeof *run_fields, NULL, d, &r) ||
            !read_parts(r.parts, d, &mask))
            return false;
        if (r.first > r.last || r.last > m->n_layers)
            return diag_add(d, DIAG_INPUT, e->at,
                            "quantization.layers: %" PRIu64 " to %" PRIu64 " of %" PRIu32
                            " layers",
                            r.first, r.last, m->n_layers);
        for (uint64_t i = r.first - 1; i < r.last; i++)
            masks[i] = mask;
    }
    m->quant.layer_parts = masks;
    return true;
}

/* A format by its name; no name is none. */
static bool read_format(const struct doc_node *n, const char *name, struct diag *d,
                        const struct weight_format **out)
{
    *out = weight_format_find(name);
    return *out || !name ||
           diag_add(d, DIAG_INPUT, n->at, "weight format '%s' is not known", name);
}

bool inline_quant(struct arena *a, const struct doc_node *n, struct diag *d, struct model *m)
{
    struct map map = {0};

    m->quant = (struct quant){0};
    if (doc_is_null(n))
        return true;
    if (!bind_map(a, n, "quantization", fields, sizeof fields / sizeof *fields, NULL, d, &map))
        return false;
    if (!read_format(n, map.format, d, &m->quant.format) ||
        !read_format(n, map.embed, d, &m->quant.embed) ||
        !read_format(n, map.head, d, &m->quant.head))
        return false;
    m->quant.method = map.method;
    m->quant.kv_format = map.kv_format;
    m->quant.parts = PARTS_LINEAR;
    return read_parts(map.parts, d, &m->quant.parts) && read_runs(a, map.layers, d, m);
}

static void write_parts(uint32_t mask, FILE *out)
{
    const char *comma = "";

    fputc('[', out);
    for (int p = 0; p < N_PARTS; p++) {
        if (mask >> p & 1u) {
            fprintf(out, "%s%s", comma, part_name((enum part)p));
            comma = ", ";
        }
    }
    fputc(']', out);
}

void write_quant(const struct model *m, FILE *out)
{
    const struct quant *q = &m->quant;
    bool headed = false;

    if (!q->format)
        return;
    fprintf(out, "quantization:\n  format: %s\n", q->format->name);
    if (q->method)
        fprintf(out, "  method: %s\n", q->method);
    if (q->kv_format)
        fprintf(out, "  kv_format: %s\n", q->kv_format);
    if (q->embed)
        fprintf(out, "  embed_format: %s\n", q->embed->name);
    if (q->head)
        fprintf(out, "  head_format: %s\n", q->head->name);
    if (q->parts != PARTS_LINEAR) {
        fputs("  parts: ", out);
        write_parts(q->parts, out);
        fputc('\n', out);
    }
    for (uint32_t i = 0; q->layer_parts && i < m->n_layers; i++) {
        uint32_t first = i;

        while (i + 1 < m->n_layers && q->layer_parts[i + 1] == q->layer_parts[first])
            i++;
        if (q->layer_parts[first] == q->parts)
            continue;
        fprintf(out, "%s    - {first: %" PRIu32 ", last: %" PRIu32 ", parts: ",
                headed ? "" : "  layers:\n", first + 1, i + 1);
        write_parts(q->layer_parts[first], out);
        fputs("}\n", out);
        headed = true;
    }
}
