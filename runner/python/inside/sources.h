/*
 * The Python sources of this folder, which CMake puts into the program. Private to it.
 *
 * Threads: constants. Ownership: static.
 */
#ifndef INSIDE_SOURCES_H
#define INSIDE_SOURCES_H

extern const char source_policy_py[], source_run_py[];

#endif
