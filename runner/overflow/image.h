/*
 * Jobs for requests that name an image or a size of their own: one job for each distinct image and
 * size, made when the first task wants it, used again by those after it, and deleted when no task
 * has wanted it for IMAGE_JOB_DAYS.
 *
 * Theory of operation. A job of that kind is the configured one with another image and other
 * limits: same account, bucket, key, secrets and network. Its name is the configured job's and a
 * hash of what is different, so that it is known without asking. The worker is not in a foreign
 * image: it lies in the bucket (kit.h), and the bucket is mounted, read only, at KIT_MOUNT.
 * Google's description of the API (v2, TaskTemplate.containers: "the single container that defines
 * the unit of execution") has one container to a job's task, whose end is the task's: a second one
 * that copies the worker into a shared volume in memory is for services. A volume of Cloud Storage
 * (Volume.gcs) is there for both, takes none of the task's memory, and is read once a node.
 *
 * Threads: any.
 */
#ifndef OVERFLOW_IMAGE_H
#define OVERFLOW_IMAGE_H

#include "google/jobs.h"
#include "runner/overflow/folder.h"
#include "runner/request/request.h"

#define IMAGE_JOB_DAYS 7

/* Why Cloud Run cannot run the request, as a static text, or NULL when it can. */
const char *image_refuses(const struct task_request *request);

/* The name of the request's job: the configured one when it has neither image nor size. */
int image_job_name(const struct cloud *cloud, const struct task_request *request,
                   char ret_name[RUN_NAME_SIZE], struct err *err);

/* Makes the job of that name unless it exists; then deletes jobs that were not used for long.
 * ERR_FORBIDDEN: the home runner's account lacks run.jobs.create. */
int image_job_ensure(const struct cloud *cloud, const struct task_request *request,
                     const char *name, struct err *err);

#endif
