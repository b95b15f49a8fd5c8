/*
 * Assertions: what this program promises itself.
 *
 * REQUIRE is for contracts that only a mistake of ours can break (an argument that must not be
 * NULL, a state that a caller must be in), never for what users, files or peers send. It stays on
 * in release: a broken contract ends the program at once, with the place, instead of going on with
 * what cannot be true.
 *
 * Threads: any.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

/* Prints the place and what was required to standard error, and aborts. */
_Noreturn void require_failed(const char *file, int line, const char *function, const char *what);

#ifdef __FILE_NAME__
#define REQUIRE_FILE __FILE_NAME__
#else
#define REQUIRE_FILE __FILE__
#endif

#define REQUIRE(cond) ((cond) ? (void)0 : require_failed(REQUIRE_FILE, __LINE__, __func__, #cond))

#endif
