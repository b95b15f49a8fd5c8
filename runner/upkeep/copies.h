/*
 * The folder in a backup with what was copied for it: it takes the place of files that a running
 * runner changes, and of the login, which may lie outside of the state folder.
 *
 * Threads: names only. Private to runner/upkeep.
 */
#ifndef UPKEEP_COPIES_H
#define UPKEEP_COPIES_H

#define BACKUP_COPIES "copied"
#define BACKUP_DATABASE BACKUP_COPIES "/runner.db"
#define BACKUP_CREDENTIALS BACKUP_COPIES "/credentials.json"

#endif
