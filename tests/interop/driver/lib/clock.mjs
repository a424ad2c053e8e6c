// Import this module before anything that keeps `Date`. DRIVER_CLOCK is how far the clock of this process is ahead, in
// milliseconds: the stock client stamps its writes by it.
const ahead = Number(process.env.DRIVER_CLOCK ?? 0)

if (ahead !== 0) {
  const Right = Date
  globalThis.Date = class Date extends Right {
    constructor(...args) {
      super(...(args.length === 0 ? [Right.now() + ahead] : args))
    }
    static now() {
      return Right.now() + ahead
    }
  }
}
