/* What llama.cpp knows of an architecture beside the keys of a file. Private to
 * planner/model. */
#ifndef KVBUDGET_PLANNER_MODEL_GGUF_ARCH_H
#define KVBUDGET_PLANNER_MODEL_GGUF_ARCH_H

#include <stdbool.h>
#include <stdint.h>

enum { GGUF_EVERY_LAYER_SLIDES = UINT16_MAX };

struct gguf_arch {
    const char *name;       /* general.architecture */
    const char *model_type; /* of a config.json of the same model; NULL: as the name */
    uint16_t period;        /* of sliding layers: one in `period` is full; 0 = none slides */
    bool dense_first;       /* the first of a period is full, else the last */
    bool chunked;
    uint16_t window;     /* set in code; 0: by the key */
    uint8_t kv_layers;   /* only these first layers hold K/V (Gemma 3n); 0 = all */
    const char *refused; /* why it cannot be modelled */
};

/* NULL: nothing particular is known. */
const struct gguf_arch *gguf_arch_find(const char *name);

#endif
