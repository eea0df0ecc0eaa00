/* run.h: running programs. */
#ifndef NB_RUN_H
#define NB_RUN_H

#include "program.h"

/* Runs a program whose arguments and results point somewhere. Updates kept tensors only when all went well. */
bool nb__run(nb_program *p);

/* False, and the context has failed, in a process that was forked and has not the context's threads. */
bool nb__has_threads(nb_context *nb, const char *user);

void nb__cache_free(nb_context *nb);

/* describe.c: the clock of a profile. A run starts (false: nobody wants to know), goes from call to call, and ends. What lies
 * between the calls is skipped. */
bool nb__profile_starts(const nb_program *p);
void nb__profile_call(const nb_program *p, int call);
void nb__profile_skip(const nb_program *p);
void nb__profile_ends(const nb_program *p);

#endif
