/* Llama 1 to 3 and the many decoders of exactly this shape. */
#include "planner/model/family.h"

#include <string.h>

static void read(struct config *c, struct model *m)
{
    m->tied =
        strcmp(m->model_type, "smollm3") == 0; /* its class ties by default, Llama's does not */
    if (!family_read_llama_like(c, m))
        return;
    /* the 13B of both generations; the 7B rotates. source: modeling_baichuan.py of the 13B */
    m->alibi = !strcmp(m->model_type, "baichuan") && m->hidden == 5120;
}

static const char *const types[] = {"llama", "yi", "Yi", "baichuan", "aquila", "smollm3", NULL};

const struct family family_llama = {
    .name = "llama",
    .model_types = types,
    .summary = "Llama 1 to 3, Yi, SmolLM, Baichuan and others of this shape",
    .source = "huggingface/transformers src/transformers/models/llama",
    .read = read,
};
