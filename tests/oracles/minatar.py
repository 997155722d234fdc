"""Four games of MinAtar (Young and Tian 2019) as plain Python, one object a game.

What is random is an argument. `play(letter, luck)` takes the action that is really
taken, by its letter, and returns (reward, over). `board()` is the observation,
[10, 10, C] bool. `fields()` is the state under the library's names. A game goes on
after its end, which makes long games of high difficulty out of clumsy players; but not
Breakout, where the ball would leave the board.
"""

import numpy as np


def towards(place, step, low, high):
    return min(max(place + step, low), high)


def drawn(*channels):
    """[10, 10, C] bool from sets of (row, column), one for each channel."""
    board = np.zeros((10, 10, len(channels)), bool)
    for i, places in enumerate(channels):
        for place in places:
            board[(*place, i)] = True
    return board


class Breakout:
    actions = "nlr"

    def __init__(self, luck):
        """`luck`: whether the ball starts on the right."""
        self.paddle, self.met_brick = 4, False
        self.ball = self.trail = (3, 9 if luck else 0)
        self.heading = (1, -1 if luck else 1)
        self.build()

    def build(self):
        self.bricks = {(row, column) for row in (1, 2, 3) for column in range(10)}

    def play(self, letter, luck=None):
        self.paddle = towards(self.paddle, {"l": -1, "r": 1}.get(letter, 0), 0, 9)
        (row, column), (down, right) = self.ball, self.heading
        self.trail, reward, over = self.ball, 0, False
        following = column + right
        if following in (-1, 10):
            following, right = column, -right
        below, met = row + down, False
        if below == -1:
            below, down = 0, 1
        elif (below, following) in self.bricks:
            met = True
            if not self.met_brick:  # else the ball flies through
                self.bricks.remove((below, following))
                reward, below, down = 1, row, -down
        elif below == 9:
            if not self.bricks:
                self.build()
            if column == self.paddle:
                below, down = 8, -1
            elif following == self.paddle:
                below, down, right = 8, -1, -right
            else:
                over = True
        self.met_brick = met
        self.ball, self.heading = (below, following), (down, right)
        return reward, over

    def board(self):
        return drawn({(9, self.paddle)}, {self.ball}, {self.trail}, self.bricks)

    def fields(self):
        bricks = sum(1 << 3 * column + row - 1 for row, column in self.bricks)
        return {
            "paddle": self.paddle,
            "row": self.ball[0],
            "column": self.ball[1],
            "last_row": self.trail[0],
            "last_column": self.trail[1],
            "down": self.heading[0],
            "right": self.heading[1],
            "bricks": bricks,
            "in_brick": self.met_brick,
        }


class Asterix:
    actions = "nlurd"

    def __init__(self, luck=None, ramping=True):
        self.ramping, self.row, self.column = ramping, 5, 5
        self.things = {}  # by row: [column, direction, gold]
        self.spawn_every, self.move_every = 10, 5
        self.until_spawn, self.until_move = 10, 5
        self.until_harder, self.times_harder, self.time = 101, 0, 0

    def play(self, letter, luck):
        """`luck`: whether a thing goes right, whether it is gold, and u in [0, 1)."""
        if self.until_spawn == 0:
            self.spawn(*luck)
            self.until_spawn = self.spawn_every
        self.row = towards(self.row, {"u": -1, "d": 1}.get(letter, 0), 1, 8)
        self.column = towards(self.column, {"l": -1, "r": 1}.get(letter, 0), 0, 9)
        reward, over = self.meet()
        if self.until_move == 0:
            self.until_move = self.move_every
            for thing in self.things.values():
                thing[0] += thing[1]
            inside = {r: x for r, x in self.things.items() if 0 <= x[0] <= 9}
            self.things = inside
            more, also_over = self.meet()
            reward, over = reward + more, over or also_over
        self.until_spawn -= 1
        self.until_move -= 1
        self.become_harder()
        return reward, over

    def spawn(self, rightwards, gold, u):
        free = [row for row in range(1, 9) if row not in self.things]
        if free:
            row = free[int(u * len(free))]
            column, direction = (0, 1) if rightwards else (9, -1)
            self.things[row] = [column, direction, gold]

    def meet(self):
        thing = self.things.get(self.row)
        if thing is None or thing[0] != self.column:
            return 0, False
        if thing[2]:
            del self.things[self.row]
        return int(thing[2]), not thing[2]

    def become_harder(self):
        if not self.ramping or self.spawn_every == self.move_every == 1:
            return
        self.time += 1
        if self.until_harder > 0:
            self.until_harder -= 1
            return
        if self.times_harder % 2 and self.move_every > 1:
            self.move_every -= 1
        if self.spawn_every > 1:
            self.spawn_every -= 1
        self.times_harder += 1
        self.until_harder = 101

    def board(self):
        player, enemies, trails, gold = {(self.row, self.column)}, set(), set(), set()
        for row, (column, direction, is_gold) in self.things.items():
            (gold if is_gold else enemies).add((row, column))
            if 0 <= column - direction <= 9:
                trails.add((row, column - direction))
        return drawn(player, enemies, trails, gold)

    def fields(self):
        things = [self.things.get(row, (-1, 1, False)) for row in range(1, 9)]
        columns, directions, gold = zip(*things, strict=True)
        return {
            "row": self.row,
            "column": self.column,
            "columns": columns,
            "directions": directions,
            "gold": gold,
            "spawn_timer": self.until_spawn,
            "move_timer": self.until_move,
            "time": self.time,
        }


class Freeway:
    actions = "nud"

    def __init__(self, luck):
        """`luck`: the speeds of the eight cars."""
        self.row, self.rest, self.time = 9, 3, 0
        self.columns = [0] * 8
        self.give_speeds(luck)

    def give_speeds(self, speeds):
        self.speeds, self.waits = (
            [int(v) for v in speeds],
            [abs(int(v)) for v in speeds],
        )

    def play(self, letter, luck):
        """`luck`: the speeds of the cars, should they get new ones."""
        reward = 0
        if letter in "ud" and self.rest == 0:
            self.rest = 3
            self.row = towards(self.row, -1 if letter == "u" else 1, 0, 9)
        if self.row == 0:
            reward, self.row = 1, 9
            self.give_speeds(luck)
        for car in range(8):
            self.hit(car)
            if self.waits[car]:
                self.waits[car] -= 1
                continue
            self.waits[car] = abs(self.speeds[car])
            step = 1 if self.speeds[car] > 0 else -1
            self.columns[car] = (self.columns[car] + step) % 10
            self.hit(car)
        self.rest = max(self.rest - 1, 0)
        self.time += 1
        return reward, self.time > 2500

    def hit(self, car):
        if (car + 1, self.columns[car]) == (self.row, 4):
            self.row = 9

    def board(self):
        cars, trails = set(), [set() for _ in range(5)]
        for car, column in enumerate(self.columns):
            speed = self.speeds[car]
            cars.add((car + 1, column))
            behind = (column - (1 if speed > 0 else -1)) % 10
            trails[abs(speed) - 1].add((car + 1, behind))
        return drawn({(self.row, 4)}, cars, *trails)

    def fields(self):
        return {
            "row": self.row,
            "columns": tuple(self.columns),
            "speeds": tuple(self.speeds),
            "timers": tuple(self.waits),
            "move_timer": self.rest,
            "time": self.time,
        }


class SpaceInvaders:
    actions = "nlrf"

    def __init__(self, luck=None, ramping=True):
        self.ramping, self.cannon, self.direction = ramping, 5, -1
        self.bullets, self.bombs = set(), set()
        self.interval = self.until_move = 12
        self.until_bomb, self.until_ready = 10, 0
        self.arrive()

    def arrive(self):
        self.aliens = {(row, column) for row in range(4) for column in range(2, 8)}

    def play(self, letter, luck=None):
        if letter == "f" and self.until_ready == 0:
            self.bullets.add((9, self.cannon))
            self.until_ready = 5
        self.cannon = towards(self.cannon, {"l": -1, "r": 1}.get(letter, 0), 0, 9)
        self.bullets = {(row - 1, column) for row, column in self.bullets if row}
        self.bombs = {(row + 1, column) for row, column in self.bombs if row < 9}
        here = (9, self.cannon)
        over = here in self.bombs or here in self.aliens
        if self.until_move == 0:
            over = self.march() or here in self.aliens or over
        if self.until_bomb == 0:
            self.until_bomb = 10
            columns = {column for _, column in self.aliens}
            nearest = min(columns, key=lambda x: (abs(x - self.cannon), x))
            lowest = max(row for row, column in self.aliens if column == nearest)
            self.bombs.add((lowest, nearest))
        killed = self.aliens & self.bullets
        self.aliens, self.bullets = self.aliens - killed, self.bullets - killed
        self.until_ready = max(self.until_ready - 1, 0)
        self.until_move -= 1
        self.until_bomb -= 1
        if not self.aliens:
            if self.ramping and self.interval > 6:
                self.interval -= 1
            self.arrive()
        return len(killed), over

    def march(self):
        """Moves the aliens; whether they were at the bottom and had to go down."""
        self.until_move = min(len(self.aliens), self.interval)
        edge = 0 if self.direction < 0 else 9
        if not any(column == edge for _, column in self.aliens):
            self.aliens = {(row, x + self.direction) for row, x in self.aliens}
            return False
        self.direction = -self.direction
        invaded = any(row == 9 for row, _ in self.aliens)
        self.aliens = {((row + 1) % 10, column) for row, column in self.aliens}
        return invaded

    def board(self):
        aliens, left = self.aliens, self.direction < 0
        ways = (aliens, set()) if left else (set(), aliens)
        return drawn({(9, self.cannon)}, aliens, *ways, self.bullets, self.bombs)

    def fields(self):
        def rows(places):
            return [sum(1 << r for r, c in places if c == x) for x in range(10)]

        return {
            "cannon": self.cannon,
            "aliens": rows(self.aliens),
            "bullets": rows(self.bullets),
            "bombs": rows(self.bombs),
            "direction": self.direction,
            "interval": self.interval,
            "move_timer": self.until_move,
            "bomb_timer": self.until_bomb,
            "shot_timer": self.until_ready,
        }
