package store

// ScratchDir is for the tests outside of the package.
var ScratchDir = scratchDir
