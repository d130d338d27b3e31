package window

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests do not depend on the machine's zones
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func daily() [7]bool { return [7]bool{true, true, true, true, true, true, true} }

func only(days ...time.Weekday) [7]bool {
	var set [7]bool
	for _, d := range days {
		set[d] = true
	}
	return set
}

func clock(t *testing.T, text string) Clock {
	t.Helper()
	c, err := ParseClock(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func utc(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04", text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Berlin went to summer time on 2026-03-29 at 01:00 UTC (02:00 became 03:00) and back on 2026-10-25 at 01:00 UTC (03:00
// became 02:00). Cairo leaves out the hour after midnight on 2026-04-24; Samoa left out all of 2011-12-30.
func TestAWindowOpensAndClosesByTheClockOfItsZone(t *testing.T) {
	for name, test := range map[string]struct {
		zone, from, to string
		days           [7]bool
		at             string
		open           bool
		until          string
	}{
		"an hour in winter":                          {"Europe/Berlin", "02:00", "03:00", daily(), "2026-01-10 01:30", true, "2026-01-10 02:00"},
		"the same hour in summer":                    {"Europe/Berlin", "02:00", "03:00", daily(), "2026-07-10 00:30", true, "2026-07-10 01:00"},
		"the moment of opening is open":              {"UTC", "02:00", "03:00", daily(), "2026-01-10 02:00", true, "2026-01-10 03:00"},
		"the moment of closing is closed":            {"UTC", "02:00", "03:00", daily(), "2026-01-10 03:00", false, "2026-01-11 02:00"},
		"past midnight, before it":                   {"Europe/Berlin", "22:00", "04:00", only(time.Friday), "2026-01-09 22:30", true, "2026-01-10 03:00"},
		"past midnight, after it":                    {"Europe/Berlin", "22:00", "04:00", only(time.Friday), "2026-01-10 02:00", true, "2026-01-10 03:00"},
		"past midnight, a day too late":              {"Europe/Berlin", "22:00", "04:00", only(time.Friday), "2026-01-10 22:30", false, "2026-01-16 21:00"},
		"to 24:00":                                   {"UTC", "22:00", "24:00", only(time.Friday), "2026-01-09 23:59", true, "2026-01-10 00:00"},
		"spring: the night is an hour shorter":       {"Europe/Berlin", "22:00", "04:00", daily(), "2026-03-28 22:00", true, "2026-03-29 02:00"},
		"spring: it opens in the hour left out":      {"Europe/Berlin", "02:30", "05:00", daily(), "2026-03-29 00:59", false, "2026-03-29 01:00"},
		"spring: opened at the jump":                 {"Europe/Berlin", "02:30", "05:00", daily(), "2026-03-29 01:00", true, "2026-03-29 03:00"},
		"spring: it closes in the hour left out":     {"Europe/Berlin", "01:00", "02:30", daily(), "2026-03-29 00:30", true, "2026-03-29 01:00"},
		"spring: wholly in the hour left out":        {"Europe/Berlin", "02:10", "02:50", only(time.Sunday), "2026-03-28 12:00", false, "2026-04-05 00:10"},
		"autumn: the night is an hour longer":        {"Europe/Berlin", "22:00", "04:00", daily(), "2026-10-24 21:00", true, "2026-10-25 03:00"},
		"autumn: it opens when the time comes first": {"Europe/Berlin", "02:30", "04:00", daily(), "2026-10-25 00:30", true, "2026-10-25 03:00"},
		"autumn: it closes when the time is first":   {"Europe/Berlin", "01:00", "02:30", daily(), "2026-10-25 00:30", false, "2026-10-26 00:00"},
		"autumn: within the hour that comes twice":   {"Europe/Berlin", "02:10", "02:50", daily(), "2026-10-25 01:20", false, "2026-10-26 01:10"},
		"the hour after midnight is left out":        {"Africa/Cairo", "00:15", "02:00", daily(), "2026-04-23 22:00", true, "2026-04-23 23:00"},
		"a whole day is left out":                    {"Pacific/Apia", "10:00", "12:00", only(time.Friday), "2011-12-29 12:00", false, "2012-01-05 20:00"},
		"New York, spring":                           {"America/New_York", "01:00", "03:00", daily(), "2026-03-08 06:30", true, "2026-03-08 07:00"},
		"half an hour of change on Lord Howe":        {"Australia/Lord_Howe", "01:00", "02:15", daily(), "2026-10-03 15:00", true, "2026-10-03 15:30"},
	} {
		t.Run(name, func(t *testing.T) {
			set := Set{{Days: test.days, From: clock(t, test.from), To: clock(t, test.to), Zone: zone(t, test.zone)}}
			got := set.At(utc(t, test.at))
			if got.Open != test.open || !got.Until.Equal(utc(t, test.until)) {
				t.Errorf("open %v until %v, want %v until %s", got.Open, got.Until.UTC(), test.open, test.until)
			}
		})
	}
}

func TestWindowsThatTouchAreOne(t *testing.T) {
	set := Set{
		{Days: daily(), From: clock(t, "22:00"), To: clock(t, "24:00"), Zone: time.UTC, MinLeft: time.Hour},
		{Days: daily(), From: clock(t, "00:00"), To: clock(t, "03:00"), Zone: time.UTC, MinLeft: 30 * time.Minute},
		{Days: daily(), From: clock(t, "02:00"), To: clock(t, "05:00"), Zone: time.UTC, MinLeft: 2 * time.Hour},
	}
	got := set.At(utc(t, "2026-01-09 23:30"))
	if want := (Status{true, utc(t, "2026-01-10 05:00"), time.Hour}); got.Open != want.Open || !got.Until.Equal(want.Until) || got.MinLeft != want.MinLeft {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := set.At(utc(t, "2026-01-10 02:30")); got.MinLeft != 2*time.Hour {
		t.Errorf("where two windows are open, %s must be left", got.MinLeft)
	}
}

func TestAWindowLastsForAsLongAsOthersThatTouchItGoOn(t *testing.T) {
	late := Window{Days: only(time.Saturday), From: clock(t, "22:00"), To: clock(t, "24:00"), Zone: time.UTC}
	early := Window{Days: only(time.Sunday), From: clock(t, "00:00"), To: clock(t, "03:00"), Zone: time.UTC}
	other := Window{Days: only(time.Sunday), From: clock(t, "04:00"), To: clock(t, "05:00"), Zone: time.UTC}
	for name, test := range map[string]struct {
		set  Set
		of   Window
		want time.Duration
	}{
		"alone":                  {Set{late}, late, 2 * time.Hour},
		"with one that it ends":  {Set{late, early}, early, 3 * time.Hour},
		"with one that goes on":  {Set{late, early, other}, late, 5 * time.Hour},
		"with one that is apart": {Set{other, early}, other, time.Hour},
	} {
		if got := test.set.Lasts(test.of); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	if got := (Set{other, late, early}).Longest(); got != 5*time.Hour {
		t.Errorf("it is open for %s at most", got)
	}
	if got := (Set{}).Longest(); got != 0 {
		t.Errorf("one that is always open is open for %s at most", got)
	}
}

func TestAHostIsStartedOnlyWhereEnoughOfTheWindowIsLeft(t *testing.T) {
	set := Set{{Days: only(time.Saturday), From: clock(t, "02:00"), To: clock(t, "04:00"), Zone: time.UTC, MinLeft: 30 * time.Minute}}
	for name, test := range map[string]struct {
		at    string
		takes time.Duration
		ok    bool
		why   string
		again string
	}{
		"enough is left":             {"2026-01-10 03:30", 10 * time.Minute, true, "", ""},
		"less than min-left":         {"2026-01-10 03:31", 10 * time.Minute, false, "needs 30m", "2026-01-17 02:00"},
		"less than the host takes":   {"2026-01-10 02:30", 2 * time.Hour, false, "needs 2h", "2026-01-17 02:00"},
		"closed":                     {"2026-01-10 01:00", 0, false, "closed until Sat 2026-01-10 02:00", "2026-01-10 02:00"},
		"exactly as long as is left": {"2026-01-10 02:00", 2 * time.Hour, true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ok, why, again := set.MayStart(utc(t, test.at), test.takes)
			if ok != test.ok || !strings.Contains(why, test.why) {
				t.Errorf("got %v %q", ok, why)
			}
			if test.again != "" && !again.Equal(utc(t, test.again)) {
				t.Errorf("ask again at %v, want %s", again, test.again)
			}
		})
	}
}

func TestAPoolWithoutWindowsIsAlwaysOpen(t *testing.T) {
	if ok, _, _ := (Set(nil)).MayStart(utc(t, "2026-01-10 03:30"), 100*time.Hour); !ok {
		t.Error("closed")
	}
}

func TestOnlyTimesOfTheDayAreRead(t *testing.T) {
	for text, want := range map[string]Clock{"00:00": 0, "09:05": 545, "24:00": 1440} {
		if got, err := ParseClock(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "9:00", "24:01", "12:60", "-1:00", "+1:00", "1:-05", "ab:cd", "12:3x", "12.30"} {
		if got, err := ParseClock(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

// brute goes through the minutes one by one and only looks at what the clock shows, as a person would.
type brute struct{ w Window }

// wall is what the clock shows, comparable.
func wall(t time.Time) int64 {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC).Unix()
}

// first is the first minute, not before begin, whose clock shows the wanted time or later.
func first(begin time.Time, minutes int, zone *time.Location, wanted int64) time.Time {
	for i := range minutes {
		if at := begin.Add(time.Duration(i) * time.Minute); wall(at.In(zone)) >= wanted {
			return at
		}
	}
	return time.Time{}
}

func (b brute) open(t time.Time) bool {
	for back := 0; back <= 2; back++ {
		year, month, day := t.In(b.w.Zone).Date()
		date := time.Date(year, month, day-back, 12, 0, 0, 0, time.UTC)
		if !b.w.Days[date.Weekday()] {
			continue
		}
		midnight := date.Add(-12 * time.Hour).Unix()
		from, to := midnight+int64(b.w.From)*60, midnight+int64(b.w.To)*60
		if b.w.To <= b.w.From {
			to += 24 * 3600
		}
		begin := date.Add(-39 * time.Hour)
		opens, closes := first(begin, 80*60, b.w.Zone, from), first(begin, 110*60, b.w.Zone, to)
		if !t.Before(opens) && t.Before(closes) {
			return true
		}
	}
	return false
}

func TestARandomWindowIsOpenExactlyWhenTheClockSaysSo(t *testing.T) {
	zones := []string{"Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Asia/Kolkata", "UTC", "America/St_Johns", "Pacific/Apia"}
	changes := []string{"2026-03-29 00:00", "2026-10-25 00:00", "2026-03-08 07:00", "2026-11-01 06:00", "2026-04-23 22:00", "2026-04-04 15:00", "2026-10-03 15:30"}
	random := rand.New(rand.NewPCG(3, 9))
	for range 40 {
		w := Window{Zone: zone(t, zones[random.IntN(len(zones))]), From: Clock(random.IntN(96) * 15), To: Clock(random.IntN(96) * 15)}
		for day := range w.Days {
			w.Days[day] = random.IntN(3) > 0
		}
		w.Days[random.IntN(7)] = true
		if w.From == w.To {
			continue
		}
		set := Set{w}
		at := utc(t, changes[random.IntN(len(changes))]).Add(time.Duration(random.IntN(72*60)-36*60) * time.Minute)
		status := set.At(at)
		if want := (brute{w}).open(at); status.Open != want {
			t.Fatalf("%s-%s %s %v at %v: open %v, the clock says %v", w.From, w.To, w.Zone, w.Days, at.In(w.Zone), status.Open, want)
		}
		if status.Until.IsZero() || !status.Until.After(at) {
			t.Fatalf("%s-%s %s: until %v is not after %v", w.From, w.To, w.Zone, status.Until, at)
		}
		if (brute{w}).open(status.Until) == status.Open && !touches(w) {
			t.Fatalf("%s-%s %s %v: nothing changes at %v", w.From, w.To, w.Zone, w.Days, status.Until.In(w.Zone))
		}
		if before := status.Until.Add(-time.Minute); !before.Before(at) && (brute{w}).open(before) != status.Open {
			t.Fatalf("%s-%s %s %v: it changed before %v", w.From, w.To, w.Zone, w.Days, status.Until.In(w.Zone))
		}
	}
}

// touches says whether a window ends just where the next day's begins.
func touches(w Window) bool { return w.Length() == 24*time.Hour }

func TestTheNextOpeningIsNeverInAClosedTime(t *testing.T) {
	set := Set{
		{Days: only(time.Sunday), From: clock(t, "02:10"), To: clock(t, "02:50"), Zone: zone(t, "Europe/Berlin")},
		{Days: only(time.Monday, time.Thursday), From: clock(t, "23:30"), To: clock(t, "01:30"), Zone: zone(t, "America/New_York"), MinLeft: time.Hour},
	}
	end := utc(t, "2027-01-01 00:00")
	for at := utc(t, "2026-01-01 00:00"); at.Before(end); {
		status := set.At(at)
		if after := set.At(status.Until); after.Open == status.Open {
			t.Fatalf("at %v the windows are open=%v, and so they are at %v", at, status.Open, status.Until)
		}
		if just := set.At(status.Until.Add(-time.Nanosecond)); just.Open != status.Open {
			t.Fatalf("at %v they change before %v", at, status.Until)
		}
		if ok, _, again := set.MayStart(at, 0); !ok {
			if again.IsZero() || !set.At(again).Open {
				t.Fatalf("at %v a host is to be tried again at %v, when the windows are closed", at, again)
			}
		}
		at = status.Until
	}
}
