/* EXAONE 4: q/k norms a head; the large model slides on three layers of four. */
#include "planner/model/family.h"

static void read(struct config *c, struct model *m)
{
    uint32_t window = config_u32(c, "sliding_window", 0);

    if (!family_read_llama_like(c, m))
        return;
    m->confidence = "unverified";
    family_set_qk_norm(m, QK_NORM_HEAD);
    if (window)
        family_read_windows(c, m, window, 4);
}

static const char *const types[] = {"exaone4", NULL};

const struct family family_exaone4 = {
    .name = "exaone4",
    .model_types = types,
    .summary = "EXAONE 4",
    .source = "huggingface/transformers src/transformers/models/exaone4",
    .read = read,
};
