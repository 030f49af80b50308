// The runtime's own process.exit, to be imported before anybody puts something else in its place.

export const nativeExit = process.exit;
