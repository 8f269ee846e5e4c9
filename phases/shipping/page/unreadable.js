/** What is wrong with a file, in one sentence for the page. */
export class Unreadable extends Error {}
