#ifndef MVOLATILE_PROTOCOL_MARKER_H
#define MVOLATILE_PROTOCOL_MARKER_H

void marker_init(void);
void marker_give_up(void); /* what lingers is marked now */
void marker_before_fork(void); /* the same, with the gate shut: a child has no marker */

#endif
