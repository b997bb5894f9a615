/* A simulation as JSON (kvbudget.sim/1) and as a page for people. */
#ifndef KVBUDGET_SIM_REPORT_H
#define KVBUDGET_SIM_REPORT_H

#include "planner/plan/json.h"
#include "sim/run.h"

struct sim_report {
    const char *spec; /* its name */
    const struct problem *problem;
    const struct step_model *steps;
    const char *steps_file; /* of measured steps; NULL = the roofline */
    const struct run_in *in;
    struct trace_scale scale;
    const struct arrivals *arrivals; /* NULL = a trace file */
    const struct run *run;
    const struct run_search *search; /* NULL = not asked for */
    const struct diag *diag;
};

const char *router_name(enum router r);

/* Freed with cJSON_Delete. */
cJSON *sim_report_json(const struct sim_report *r);

/* The answer in one sentence. */
const char *sim_report_sentence(struct arena *a, const struct sim_report *r);
/* The page; `next` is a command to try, NULL = none. */
void sim_report_page(struct arena *a, const struct sim_report *r, const char *next, FILE *out);

#endif
