/* Vision towers against differences of published safetensors totals to the text models; the one
 * with deepstack mergers has no published total at hand and is worked out by hand. */
#include <string.h>

#include "planner/model/vision.h"
#include "tests/kvtest.h"

struct tower {
    const char *config;
    uint32_t hidden;
    uint64_t params;
};

#define QWEN_1152                                                                              \
    "\"depth\": 27, \"hidden_size\": 1152, \"intermediate_size\": 4304, \"in_channels\": 3, "  \
    "\"num_position_embeddings\": 2304, \"patch_size\": 16, \"spatial_merge_size\": 2, "       \
    "\"temporal_patch_size\": 2, "

static const struct tower towers[] = {
    /* 27,781,427,952 - 26,895,998,464 - its MTP layer 424,699,392 (safetensors total of
     * Qwen3.5-27B; 437,132,016 + 4609 x 5120) */
    {"{\"model_type\": \"qwen3_5\", " QWEN_1152
     "\"out_hidden_size\": 5120, \"deepstack_visual_indexes\": []}",
     5120, 460730096},
    /* by hand, unverified: three deepstack mergers more, 9216 + 4608 x 4608 + 4608 + 4609 x
       4096 each */
    {"{\"model_type\": \"qwen3_vl\", " QWEN_1152
     "\"out_hidden_size\": 4096, \"deepstack_visual_indexes\": [8, 16, 24]}",
     4096, 456010480 + 3 * 40125952},
    /* 27,432,406,640 - 27,009,346,304 of gemma-3-27b-it */
    {"{\"model_type\": \"siglip_vision_model\", \"hidden_size\": 1152, \"intermediate_size\": 4304, "
     "\"num_hidden_layers\": 27, \"image_size\": 896, \"patch_size\": 14}",
     5376, 423060336},
    /* 401,583,781,376 - 400,711,848,960 of Llama-4-Maverick */
    {"{\"model_type\": \"llama4_vision_model\", \"hidden_size\": 1408, \"intermediate_size\": 5632, "
     "\"num_hidden_layers\": 34, \"image_size\": 336, \"patch_size\": 14, \"projector_input_dim\": 4096, "
     "\"projector_output_dim\": 4096, \"vision_output_dim\": 4096}",
     5120, 871932416},
    /* towers and configs that are not known give no figure */
    {"{\"model_type\": \"moonvit\", \"hidden_size\": 1152}", 7168, 0},
    {"{\"hidden_size\": 1152}", 7168, 0},
    {"{\"model_type\": \"siglip_vision_model\"}", 7168, 0},
    {"{\"model_type\": \"siglip_vision_model\", \"hidden_size\": 1152, \"intermediate_size\": 4304, "
     "\"num_hidden_layers\": 27, \"patch_size\": 0}",
     7168, 0},
    {"{\"model_type\": \"llama4_vision_model\", \"hidden_size\": \"many\"}", 7168, 0},
};

static void towers_are_exact(void **state)
{
    struct kt *t = *state;

    for (size_t i = 0; i < sizeof towers / sizeof *towers; i++) {
        struct doc_node *doc = NULL;
        assert_true(doc_read_json(t->a, "vision", towers[i].config, strlen(towers[i].config),
                                  false, t->d, &doc));
        kt_u64(vision_params(doc, NULL, towers[i].hidden), towers[i].params);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kt_test(towers_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
