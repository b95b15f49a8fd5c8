/*
 * What every integration test includes: testbase.h, and the harness around the daemon.
 */
#ifndef TESTLIB_TESTING_H
#define TESTLIB_TESTING_H

#include "testbase.h"

#include "asked.h"
#include "http.h"
#include "json_check.h"
#include "port.h"
#include "runner.h"
#include "stream.h"

#endif
