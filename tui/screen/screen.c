/* The registry of screens: a table made from the folder listing. */
#include "tui/ui.h"

#define ENTRY(id) extern const struct screen screen_##id;
#include "gen/screen.inc"
#undef ENTRY

static const struct screen *const table[] = {
#define ENTRY(id) &screen_##id,
#include "gen/screen.inc"
#undef ENTRY
    NULL,
};

const struct screen *screen_at(size_t i)
{
    return i < sizeof table / sizeof *table ? table[i] : NULL;
}
