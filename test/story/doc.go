// Package story tells the main job of Isthmus on real machines: a control
// plane, a node, a Linux host, a Windows host and the operator under its own
// role, and then the steps that a platform engineer would go through with them.
// The demo prints the steps, the end-to-end tests assert them: it is one story.
//
// It owns the bed that it starts (through test/testbed) and the operator's
// process. It promises that a step returns nil only if what it tells was seen
// to hold, on the machines themselves and not in the operator's word alone, and
// that everything is undone when the bed is closed or its process ends.
//
// It must never reach into the operator: what it does, a user can do with
// kubectl, and what it asserts, a user can see.
package story
