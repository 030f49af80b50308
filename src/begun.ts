// Whether this command has begun what it must take back, or see through, itself.

/** Set for good: from then on nothing but its own code may end the process. */
export const begun = { is: false };
