/* A timeline as SVG: cache use, sequences running and waiting, tokens a second. Drawn here,
 * with nothing but text. */
#ifndef KVBUDGET_SIM_PLOT_H
#define KVBUDGET_SIM_PLOT_H

#include <stdio.h>

#include "sim/series.h"

struct plot_text {
    const char *title, *subtitle; /* any text; what XML would misread is escaped */
};

void plot_svg(struct arena *a, const struct series *points, const struct plot_text *text,
              FILE *out);

#endif
