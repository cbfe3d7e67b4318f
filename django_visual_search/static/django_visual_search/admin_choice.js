// Shows each choice of a product with its picture. Without this script the admin's own autocomplete shows names only.
'use strict';
{
    const $ = window.django.jQuery;

    const pictured = (choice) => {
        const source = choice.picture || (choice.element && choice.element.dataset.picture);
        if (!source) {
            return choice.text;
        }
        const image = Object.assign(document.createElement('img'), {src: source, alt: '', width: 32, height: 32});
        const name = Object.assign(document.createElement('span'), {textContent: choice.text});
        const line = Object.assign(document.createElement('span'), {className: 'visual-search-choice'});
        line.append(image, name);
        return $(line);
    };

    // Without a choice, the box is named by nothing but its empty text.
    const nameBox = (element) => {
        const label = document.querySelector(`label[for="${element.id}"]`);
        const shown = document.getElementById(`select2-${element.id}-container`);
        if (label && shown) {
            label.id = label.id || `${element.id}_label`;
            shown.setAttribute('aria-labelledby', label.id);
            shown.parentElement.setAttribute('aria-labelledby', `${label.id} ${shown.id}`);
        }
    };

    // Ready handlers run in their order: the admin's own, which made these selects, came first.
    $(() => $('select.admin-autocomplete[data-field-name$="_id"]').each((_, element) => {
        const {appLabel, modelName, fieldName} = element.dataset;
        $(element).select2({
            ajax: {
                data: ({term, page}) => ({
                    term, page, app_label: appLabel, model_name: modelName, field_name: fieldName,
                }),
            },
            templateResult: pictured,
            templateSelection: pictured,
        });
        nameBox(element);
    }));

    // What the rule does was asked for: the focus goes on there. The admin's own script has put it on the first field.
    window.addEventListener('load', () => {
        const preview = document.querySelector('.visual-search-preview [autofocus]');
        if (preview) {
            preview.focus();
        }
    });
}
