// Names of members that nobody outside of the package sees: in dist they are short ones. A name that is not here costs bytes and
// nothing else; one that must not be here fails the build (see mangle.mjs), or the tests that run against dist.
export const INTERNAL_NAMES = `
added asked backoff confirmed connectSucceeded core covers doubtful encoded endAll engine entriesFor entriesOf
failure flush fold foreignClient forget forgetClient forgetSeen forgotten foundGap goOn handlers hangUp hasGuessed
hasHole hasLeftovers hasNews hasPending hasPresence hasTokenSource hasTold heard holds isAtEnd isBlocked isKept
isKnownToServer isLeaving isListening isLive isMissing isSent isSettled isShown isSure isVoid isWaiting isWanting
isWatched keptAs leaveAll loaded marked maxFrameBytes mayAskAfter mayBeOn missing mutationFailed needsSession
nextDeadline nextMs note opened overhear overlay pendingOf perform positionOf postpone prune receive
refused release releaseAll renew report requestId requestPresence restsOn returned saidBye see seeAll
sendWithId settle shown sizeBytes slot step supplied takeChanged takeDue takeNews takePage takeTold
thrown tick toWire tokenMissing tokenSupplied tokenUnavailable told touched turn unavailable undecided useToken
waits wantedAfter wasLive watchPresence watches watching wentOffline wentOnline whenLoaded writes
`
  .trim()
  .split(/\s+/);
