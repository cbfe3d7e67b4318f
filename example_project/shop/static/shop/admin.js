// Names the inputs of Django's admin that have no name of their own: in the cells of a table, two in one row, and
// autocompletes, which are named by what is chosen.
'use strict';
{
    const words = (node) => (node ? node.textContent.trim().replace(/:$/, '') : '');

    const headingOf = (cell) => words(cell.closest('table').tHead.rows[0].cells[cell.cellIndex]);

    const nameOf = (input) => {
        const label = document.querySelector(`label[for="${input.id}"]`), cell = input.closest('td');
        if (cell) {
            return headingOf(cell);
        }
        if (input.closest('.datetime')) { // one label for the day and the time of day
            const row = input.closest('.form-row');
            return `${words(row.querySelector('legend, label'))}, ${words(input.previousSibling)}`;
        }
        return words(label);
    };

    const nameAll = () => {
        for (const input of document.querySelectorAll('.inline-group td :is(input:not([type=hidden]), select), .datetime input')) {
            input.setAttribute('aria-label', nameOf(input));
        }
        for (const select of document.querySelectorAll('select.admin-autocomplete')) {
            const box = select.parentElement.querySelector('.select2-selection');
            for (const part of box ? [box, box.querySelector('.select2-selection__rendered')] : []) {
                part.removeAttribute('aria-labelledby');
                part.setAttribute('aria-label', [nameOf(select), words(part)].filter(Boolean).join(': '));
            }
        }
        for (const heading of document.querySelectorAll('.inline-group th.original:empty')) {
            heading.replaceWith(Object.assign(document.createElement('td'), {className: 'original'}));
        }
    };

    window.addEventListener('load', () => { // the admin's own scripts have made the autocompletes
        nameAll();
        document.addEventListener('formset:added', nameAll);
        document.addEventListener('change', nameAll);
        window.django?.jQuery(document).on('change', 'select.admin-autocomplete', nameAll);
    });
}
