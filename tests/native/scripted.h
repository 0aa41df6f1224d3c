/* Put before every source of the core but the system layer (platform/): its calls to the system layer go to faults.c, which lets one of them fail. */
#define os_reserve scripted_reserve
#define os_release scripted_release
#define os_free_lazily scripted_free_lazily
#define os_populate_write scripted_populate_write
#define os_populate_read scripted_populate_read
#define os_pageout scripted_pageout
#define os_discard scripted_discard
#define os_hold_resident scripted_hold_resident
#define os_watch scripted_watch
#define os_watch_again scripted_watch_again
#define os_fill_unwatched scripted_fill_unwatched
#define os_unwatch scripted_unwatch
#define os_zero scripted_zero
#define os_scan scripted_scan
#define os_watching scripted_watching
#define os_check_anonymous scripted_check_anonymous
#define os_minor_faults scripted_minor_faults
