// Names of members that nobody outside of the package sees: in dist they are short ones. A name that is not here costs and
// nothing else; one that must not be here fails the build (see mangle.mjs), or the tests that run against dist.
export const INTERNAL_NAMES = `
added applied asked blame greeted heardEvent memberSet putOff dueAt extent moveTo requests backoff channels confirmed connectSucceeded connection core covers encoded
endAll engine entriesFor entriesOf failure flush fold foldAnew foreignClient forget forgetClient forgetSeen
forgotten foundGap goOn handlers hangUp hasGuessed hasHole hasKept hasLeftovers hasNewerToken hasNews hasPresence
hasTokenSource hasTold heard holds invalidation isAtEnd isBlocked isKept isKnownToServer isLeaving isListening
isLive isMissing isSent isSettled isShown isSure isVoid isWaiting isWanting isWatched keeping leaveAll loaded incoming look
marked maxFrameBytes mayAskAfter mayBeOn missing mutationFailed needsSession nextDeadline nextId nextMs note packBytes sizes
numAttempts numbered opened outside overhear overlay pendingOf perform positionOf postpone prune queueOf readBody receive refused
release releaseAll renew renumber report requestId requestPresence restsOn returned saidBye see seeAll sendNext sendWithId
settle shown slot step takeChanged takeDue takeNews takePage takeTold thrown tick toWire
tokenMissing tokenSupplied tokenUnavailable told touched turn undecided useToken waits wantedAfter
wasLive watchPresence watches watching wentOffline wentOnline writes
`
  .trim()
  .split(/\s+/);
