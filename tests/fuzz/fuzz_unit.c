/* Number parsers and formatters: sizes read back exactly as written, reals are finite and not
 * negative, nothing is written beyond the buffer, distances are symmetric. */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "planner/base/unit.h"

static void check_whole(uint64_t v)
{
    char buf[32], *tight = malloc(3);
    uint64_t back = 0;
    enum unit_error e = unit_parse_bytes(unit_format_bytes_exact(v, buf, sizeof buf), &back);

    assert(e == UNIT_OK && back == v);
    assert(strlen(unit_format_count(v, buf, sizeof buf)) < 27);
    assert(strlen(unit_format_bytes(v, buf, sizeof buf)) < 20);
    assert(tight);
    unit_format_bytes(v, tight, 3);
    unit_format_count(v, tight, 3);
    free(tight);
}

static void check_real(double v)
{
    char buf[32];
    double back = 0;
    enum unit_error e;

    assert(v >= 0 && v - v == 0);
    assert(strlen(unit_format_flop(v, buf, sizeof buf)) < 31);
    assert(strlen(unit_format_rate(v, buf, sizeof buf)) < 31);
    assert(strlen(unit_format_seconds(v, buf, sizeof buf)) < 31);
    if (v < 1e-12 || v > 3.6e12)
        return;
    e = unit_parse_seconds(buf, &back);
    assert(e == UNIT_OK && back >= v * 0.99 && back <= v * 1.01);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static enum unit_error (*const whole[])(const char *, uint64_t *) = {
        unit_parse_u64, unit_parse_bytes, unit_parse_tokens};
    static enum unit_error (*const real[])(const char *, double *) = {
        unit_parse_double, unit_parse_rate, unit_parse_flops, unit_parse_seconds};
    char *text = malloc(size + 1), *half;

    if (!text)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        uint64_t v = 0;
        if (whole[i](text, &v) == UNIT_OK)
            check_whole(v);
        else
            assert(v == 0);
    }
    for (size_t i = 0; i < sizeof real / sizeof *real; i++) {
        double v = 0;
        if (real[i](text, &v) == UNIT_OK)
            check_real(v);
    }
    half = text + strlen(text) / 2;
    assert(unit_distance(text, half, 3) == unit_distance(half, text, 3));
    assert(unit_distance(text, text, 3) == (strlen(text) > 64 ? 4 : 0));
    free(text);
    return 0;
}
